"""Leave a stream, and read on where it was left: more than OpenAI's own service could."""

from openai import OpenAI, Stream
from openai.types.beta import AssistantStreamEvent

client = OpenAI()
runs = client.beta.threads.runs
assistant = client.beta.assistants.create(model="gpt-4o-mini")
thread = client.beta.threads.create(messages=[{"role": "user", "content": "Why is the sky blue?"}])

event = last = ""
with runs.with_streaming_response.create(
    thread_id=thread.id, assistant_id=assistant.id, stream=True
) as response:
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            event = value
            print(event)
        elif name == "id":
            last = value
            if event == "thread.message.created":
                break
print("The connection is gone. The run goes on:")

run = runs.list(thread.id).data[0]
rest = client.get(
    f"/threads/{thread.id}/runs/{run.id}/events",
    options={"headers": {"Last-Event-ID": last}},
    cast_to=AssistantStreamEvent,
    stream=True,
    stream_cls=Stream[AssistantStreamEvent],
)
for event in rest:
    if event.event == "thread.message.delta":
        print(event.data.delta.content[0].text.value, end="")
    elif event.event == "thread.message.completed":
        print()
