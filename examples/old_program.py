"""A program of 2024, unchanged: its assistant was made once, and its id is in the environment."""

import os
import time

from openai import OpenAI

client = OpenAI()
ASSISTANT_ID = os.environ["ASSISTANT_ID"]


def wait_on_run(run, thread):
    while run.status in ("queued", "in_progress"):
        time.sleep(0.5)
        run = client.beta.threads.runs.retrieve(thread_id=thread.id, run_id=run.id)
    return run


def ask(thread, question):
    client.beta.threads.messages.create(thread_id=thread.id, role="user", content=question)
    run = client.beta.threads.runs.create(thread_id=thread.id, assistant_id=ASSISTANT_ID)
    run = wait_on_run(run, thread)
    if run.status != "completed":
        raise SystemExit(f"{run.status}: {run.last_error}")
    answer = client.beta.threads.messages.list(thread_id=thread.id, run_id=run.id).data[0]
    print(f"user: {question}")
    print(f"assistant: {answer.content[0].text.value}")


assistant = client.beta.assistants.retrieve(ASSISTANT_ID)
print(f"{assistant.id} is {assistant.name}")
thread = client.beta.threads.create()
ask(thread, "My name is Ada.")
ask(thread, "What is my name?")
