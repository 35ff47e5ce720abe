"""Ask once and poll for the answer."""

from openai import OpenAI

client = OpenAI()

assistant = client.beta.assistants.create(
    model="gpt-4o-mini",
    instructions="You are a friendly assistant. Answer in one short sentence.",
)
thread = client.beta.threads.create()
client.beta.threads.messages.create(
    thread_id=thread.id, role="user", content="My name is Ada. What can you do?"
)
run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)

print(run.status)
for message in client.beta.threads.messages.list(thread_id=thread.id, order="asc"):
    print(f"{message.role}: {message.content[0].text.value}")
print(f"The thread is {thread.id}")
