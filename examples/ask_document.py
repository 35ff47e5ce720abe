"""Ask a question about a document, and see where the answer comes from."""

from pathlib import Path

from openai import OpenAI

client = OpenAI()

assistant = client.beta.assistants.create(
    model="gpt-4o-mini",
    instructions="Answer from the documents.",
    tools=[{"type": "file_search"}],
)
with Path(__file__).with_name("handbook.md").open("rb") as file:
    document = client.files.create(file=file, purpose="assistants")
attachment = {"file_id": document.id, "tools": [{"type": "file_search"}]}
question = {
    "role": "user",
    "content": "How many days of paid holiday do new employees have?",
    "attachments": [attachment],
}
thread = client.beta.threads.create(messages=[question])
run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)

answer = client.beta.threads.messages.list(thread.id, run_id=run.id).data[0].content[0].text
print(answer.value)
for citation in answer.annotations:
    file = client.files.retrieve(citation.file_citation.file_id)
    print(f"{citation.text} is {file.filename}")
