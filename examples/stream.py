"""Print the answer while it is written."""

from openai import AssistantEventHandler, OpenAI

client = OpenAI()


class Printer(AssistantEventHandler):
    def on_text_created(self, text):
        print("assistant > ", end="", flush=True)

    def on_text_delta(self, delta, snapshot):
        print(delta.value, end="", flush=True)

    def on_text_done(self, text):
        print()


assistant = client.beta.assistants.create(
    model="gpt-4o-mini", instructions="Answer in one short sentence."
)
thread = client.beta.threads.create(messages=[{"role": "user", "content": "Why is the sky blue?"}])
with client.beta.threads.runs.stream(
    thread_id=thread.id, assistant_id=assistant.id, event_handler=Printer()
) as stream:
    stream.until_done()
    print(stream.get_final_run().status)
