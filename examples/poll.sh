#!/bin/sh
# Ask once and poll for the answer, with curl alone.
set -eu

call() { # call METHOD PATH [BODY]
  curl -sS -X "$1" "$OPENAI_BASE_URL$2" ${3:+-d "$3"} -H "Authorization: Bearer $OPENAI_API_KEY" \
    -H "Content-Type: application/json" -H "OpenAI-Beta: assistants=v2"
}
id() { grep -o "$1_[A-Za-z0-9]*" | head -n 1; }

assistant=$(call POST /assistants '{"model": "gpt-4o-mini", "instructions": "Be brief."}' | id asst)
thread=$(call POST /threads '{}' | id thread)
message='{"role": "user", "content": "My name is Ada. What can you do?"}'
call POST "/threads/$thread/messages" "$message" >/dev/null
run=$(call POST "/threads/$thread/runs" "{\"assistant_id\": \"$assistant\"}" | id run)

while call GET "/threads/$thread/runs/$run" | grep -Eq '"status": ?"(queued|in_progress)"'; do
  sleep 0.2
done
call GET "/threads/$thread/messages?limit=1"
echo
