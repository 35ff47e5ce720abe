"""Let the model analyse a CSV file with Python, and fetch the charts and files that it makes."""

from pathlib import Path

from openai import OpenAI

client = OpenAI()


def ask(thread_id, question, attachments=()):
    client.beta.threads.messages.create(
        thread_id, role="user", content=question, attachments=attachments
    )
    client.beta.threads.runs.create_and_poll(thread_id=thread_id, assistant_id=assistant.id)
    print(f"user: {question}")
    for part in client.beta.threads.messages.list(thread_id).data[0].content:
        if part.type == "image_file":
            save(part.image_file.file_id, "chart.png")
        else:
            print(f"assistant: {part.text.value}")
            for annotation in part.text.annotations:
                save(annotation.file_path.file_id, annotation.text.rpartition("/")[2])


def save(file_id, name):
    client.files.content(file_id).write_to_file(name)
    print(f"(saved as {name})")


table = client.files.create(
    file=Path(__file__).with_name("sales.csv").open("rb"), purpose="assistants"
)
assistant = client.beta.assistants.create(
    model="gpt-4o-mini",
    instructions="Answer questions about data with Python.",
    tools=[{"type": "code_interpreter"}],
)
thread = client.beta.threads.create()
attached = {"file_id": table.id, "tools": [{"type": "code_interpreter"}]}
ask(thread.id, "Analyse this CSV and draw the trend of the revenue.", [attached])
ask(thread.id, "Save the revenue by region as a CSV file.")
