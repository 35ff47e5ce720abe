"""Ask again in a thread that exists: `python follow_up.py THREAD_ID QUESTION`."""

import sys

from openai import OpenAI

thread_id, question = sys.argv[1:]
client = OpenAI()

assistant_id = client.beta.threads.runs.list(thread_id).data[0].assistant_id
client.beta.threads.messages.create(thread_id, role="user", content=question)
run = client.beta.threads.runs.create_and_poll(thread_id=thread_id, assistant_id=assistant_id)

for message in client.beta.threads.messages.list(thread_id, order="asc"):
    print(f"{message.role}: {message.content[0].text.value}")
