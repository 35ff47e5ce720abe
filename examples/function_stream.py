"""Let the model call a function of this program while its answer is streamed."""

import json

from openai import AssistantEventHandler, OpenAI

client = OpenAI()
runs = client.beta.threads.runs


def get_weather(city):
    return f"It is 21 degrees and sunny in {city}."


class EventHandler(AssistantEventHandler):
    def on_event(self, event):
        if event.event == "thread.run.requires_action":
            self.answer_calls(event.data)

    def answer_calls(self, run):
        outputs = []
        for call in run.required_action.submit_tool_outputs.tool_calls:
            print(f"calls {call.function.name} with {call.function.arguments}")
            output = get_weather(**json.loads(call.function.arguments))
            outputs.append({"tool_call_id": call.id, "output": output})
        with runs.submit_tool_outputs_stream(
            thread_id=run.thread_id,
            run_id=run.id,
            tool_outputs=outputs,
            event_handler=EventHandler(),
        ) as stream:
            stream.until_done()

    def on_text_delta(self, delta, snapshot):
        print(delta.value, end="", flush=True)

    def on_text_done(self, text):
        print()


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
with runs.stream(
    thread_id=thread.id, assistant_id=assistant.id, event_handler=EventHandler()
) as stream:
    stream.until_done()
