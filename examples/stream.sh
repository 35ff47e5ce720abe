#!/bin/sh
# Show the kinds of events of a streamed run, with curl alone. Without the last line: the events themselves.
set -eu

call() { # call METHOD PATH [BODY]
  curl -sSN -X "$1" "$OPENAI_BASE_URL$2" ${3:+-d "$3"} -H "Authorization: Bearer $OPENAI_API_KEY" \
    -H "Content-Type: application/json" -H "OpenAI-Beta: assistants=v2"
}
id() { grep -o "$1_[A-Za-z0-9]*" | head -n 1; }

assistant=$(call POST /assistants '{"model": "gpt-4o-mini", "instructions": "Be brief."}' | id asst)
thread='{"messages": [{"role": "user", "content": "Why is the sky blue?"}]}'
call POST /threads/runs "{\"assistant_id\": \"$assistant\", \"thread\": $thread, \"stream\": true}" |
  grep --line-buffered '^event:' | uniq
