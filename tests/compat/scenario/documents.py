"""Questions about a real PDF, answered with citations. `HANDBOOK` is the path of the file that the test made."""

import os
from pathlib import Path
from typing import Any

from openai.types.beta import FileSearchToolParam
from openai.types.beta.threads import Message

from tests.compat.scenario.base import MODEL, QUICKLY, Scenario

QUESTION = "How often must the filter be rinsed?"
ANSWER = "every nine days"
PAGE = 3
FILE_SEARCH: FileSearchToolParam = {"type": "file_search"}
NOTES = [(f"note-{number}.txt", f"Shed {number} is locked.".encode()) for number in range(3)]


class Documents(Scenario):
    def __init__(self) -> None:
        super().__init__()
        client: Any = self._client
        self._stores = (
            client.vector_stores if hasattr(client, "vector_stores") else client.beta.vector_stores
        )
        self._content = Path(os.environ["HANDBOOK"]).read_bytes()
        self._searcher = self._beta.assistants.create(model=MODEL, tools=[FILE_SEARCH]).id

    def a_store_made_from_files_is_cited(self) -> None:
        file = self._uploaded()
        store = self._stores.create(name="Handbooks", file_ids=[file])
        self._poll(store.id, file)
        assert self._stores.retrieve(store.id).file_counts.completed == 1
        assistant = self._beta.assistants.create(
            model=MODEL,
            tools=[FILE_SEARCH],
            tool_resources={"file_search": {"vector_store_ids": [store.id]}},
        )
        thread = self._thread(QUESTION)
        run = self._runs.create_and_poll(
            thread_id=thread, assistant_id=assistant.id, poll_interval_ms=QUICKLY
        )
        assert run.status == "completed", run
        cited(self._newest(thread), file)

    def files_are_uploaded_and_polled_one_by_one(self) -> None:
        store = self._stores.create()
        file = self._stores.files.upload_and_poll(
            vector_store_id=store.id, file=("handbook.pdf", self._content), **quickly()
        )
        assert (file.status, file.last_error) == ("completed", None), file
        assert [one.id for one in self._stores.files.list(store.id).data] == [file.id]
        assert self._stores.files.delete(file.id, vector_store_id=store.id).deleted
        assert self._stores.files.list(store.id).data == []

    def files_are_uploaded_and_polled_in_a_batch(self) -> None:
        store = self._stores.create()
        batch = self._stores.file_batches.upload_and_poll(
            store.id, files=[("handbook.pdf", self._content), *NOTES], **quickly()
        )
        assert (batch.status, batch.file_counts.completed) == ("completed", 4), batch
        listed = self._stores.file_batches.list_files(batch.id, vector_store_id=store.id)
        assert len(list(listed)) == 4
        assert self._stores.delete(store.id).deleted

    def a_file_attached_to_a_message_is_cited(self) -> None:
        file = self._uploaded()
        thread = self._attached(file)
        run = self._runs.create_and_poll(
            thread_id=thread, assistant_id=self._searcher, poll_interval_ms=QUICKLY
        )
        assert run.status == "completed", run
        cited(self._newest(thread), file)

    def a_streamed_answer_is_cited(self) -> None:
        file = self._uploaded()
        thread = self._attached(file)
        with self._runs.stream(thread_id=thread, assistant_id=self._searcher) as stream:
            text = "".join(stream.text_deltas)
        message = self._newest(thread)
        cited(message, file)
        assert text == value_of(message)

    def _uploaded(self) -> str:
        return self._client.files.create(
            file=("handbook.pdf", self._content), purpose="assistants"
        ).id

    def _poll(self, store: str, file: str) -> None:
        done = self._stores.files.poll(file, vector_store_id=store, **quickly())
        assert done.status == "completed", done

    def _attached(self, file: str) -> str:
        thread = self._beta.threads.create(
            messages=[
                {
                    "role": "user",
                    "content": QUESTION,
                    "attachments": [{"file_id": file, "tools": [FILE_SEARCH]}],
                }
            ]
        )
        assert thread.tool_resources is not None
        assert thread.tool_resources.file_search is not None
        assert thread.tool_resources.file_search.vector_store_ids
        return thread.id

    def _newest(self, thread: str) -> Message:
        return self._messages.list(thread).data[0]


def quickly() -> Any:
    return {"poll_interval_ms": QUICKLY}


def value_of(message: Message) -> str:
    (part,) = message.content
    assert part.type == "text"
    return part.text.value


def cited(message: Message, file: str) -> None:
    """The answer is there, and each of its citations points at the file and the right page."""
    (part,) = message.content
    assert part.type == "text"
    value = part.text.value
    assert ANSWER in value, value
    assert part.text.annotations, value
    for annotation in part.text.annotations:
        assert annotation.type == "file_citation"
        assert annotation.file_citation.file_id == file
        assert value[annotation.start_index : annotation.end_index] == annotation.text
    pages = [
        getattr(one.file_citation, "page", None)
        for one in part.text.annotations
        if one.type == "file_citation"
    ]
    assert PAGE in pages, pages
