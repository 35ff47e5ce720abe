#!/bin/sh
# Let the model call a function and give it the output, with curl alone.
set -eu

call() { # call METHOD PATH [BODY]
  curl -sS -X "$1" "$OPENAI_BASE_URL$2" ${3:+-d "$3"} -H "Authorization: Bearer $OPENAI_API_KEY" \
    -H "Content-Type: application/json" -H "OpenAI-Beta: assistants=v2"
}
id() { grep -o "$1_[A-Za-z0-9]*" | head -n 1; }
poll() {
  while call GET "$1" | grep -Eq '"status": ?"(queued|in_progress)"'; do sleep 0.2; done
}

parameters='{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}'
weather="{\"name\": \"get_weather\", \"description\": \"Get the weather\", \"parameters\": $parameters}"
tools="[{\"type\": \"function\", \"function\": $weather}]"
assistant=$(call POST /assistants "{\"model\": \"gpt-4o-mini\", \"tools\": $tools}" | id asst)

question='{"messages": [{"role": "user", "content": "What is the weather in Paris?"}]}'
thread=$(call POST /threads "$question" | id thread)
run=/threads/$thread/runs/$(call POST "/threads/$thread/runs" "{\"assistant_id\": \"$assistant\"}" | id run)
poll "$run"

call GET "$run" | grep -o '"required_action":.*"arguments":[^}]*}"'
output="{\"tool_call_id\": \"$(call GET "$run" | id call)\", \"output\": \"It is sunny.\"}"
call POST "$run/submit_tool_outputs" "{\"tool_outputs\": [$output]}" >/dev/null
poll "$run"
call GET "/threads/$thread/messages?limit=1" | grep -o '"value": *"[^"]*"'
