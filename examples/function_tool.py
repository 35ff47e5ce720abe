"""Let the model call a function of this program."""

import json

from openai import OpenAI

client = OpenAI()


def get_weather(city):
    return f"It is 21 degrees and sunny in {city}."


declaration = {
    "name": "get_weather",
    "description": "Get the current weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
assistant = client.beta.assistants.create(
    model="gpt-4o-mini",
    instructions="Use the function to answer questions about the weather.",
    tools=[{"type": "function", "function": declaration}],
)
question = {"role": "user", "content": "What is the weather in Paris?"}
thread = client.beta.threads.create(messages=[question])
run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)

if run.status == "requires_action":
    outputs = []
    for call in run.required_action.submit_tool_outputs.tool_calls:
        print(f"calls {call.function.name} with {call.function.arguments}")
        output = get_weather(**json.loads(call.function.arguments))
        outputs.append({"tool_call_id": call.id, "output": output})
    run = client.beta.threads.runs.submit_tool_outputs_and_poll(
        thread_id=thread.id, run_id=run.id, tool_outputs=outputs
    )
print(client.beta.threads.messages.list(thread.id).data[0].content[0].text.value)
