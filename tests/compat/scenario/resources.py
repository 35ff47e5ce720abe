"""Assistants, threads and messages, and how they are refused."""

import itertools
import secrets
from typing import Any

import openai
from openai import OpenAI

from tests.compat.scenario.base import (
    HANG,
    HELLO,
    MODEL,
    PICTURE,
    WEATHER,
    Scenario,
    refused,
    text_of,
)


class Resources(Scenario):
    def assistants_are_created_changed_and_deleted(self) -> None:
        assistants = self._beta.assistants
        made = assistants.create(
            model=MODEL, name="A", instructions="I", tools=[WEATHER], metadata={"k": "v"}
        )
        assert (made.name, made.metadata, made.tools[0].type) == ("A", {"k": "v"}, "function")
        assert assistants.update(made.id, name="B").name == "B"
        assert assistants.retrieve(made.id).instructions == "I"
        assert assistants.delete(made.id).deleted
        refused(openai.NotFoundError, lambda: assistants.retrieve(made.id))

    def lists_turn_their_own_pages(self) -> None:
        made = [self._beta.assistants.create(model=MODEL).id for _ in range(5)]
        page = self._beta.assistants.list(limit=2)
        assert page.has_next_page()
        assert [one.id for one in itertools.islice(page, 5)] == made[::-1]
        later = self._beta.assistants.list(after=made[1], order="asc", limit=2)
        assert [one.id for one in itertools.islice(later, 3)] == made[2:]
        earlier = self._beta.assistants.list(before=made[3], limit=1)
        assert [one.id for one in earlier.data] == [made[4]]

    def threads_are_created_changed_and_deleted(self) -> None:
        threads = self._beta.threads
        made = threads.create(metadata={"k": "v"})
        assert threads.update(made.id, metadata={"k": "w"}).metadata == {"k": "w"}
        assert threads.retrieve(made.id).metadata == {"k": "w"}
        assert threads.delete(made.id).deleted
        refused(openai.NotFoundError, lambda: threads.retrieve(made.id))

    def what_is_sent_again_with_its_key_is_done_once(self) -> None:
        key = {"Idempotency-Key": secrets.token_hex()}
        made = self._beta.threads.create(extra_headers=key)
        assert self._beta.threads.create(extra_headers=key).id == made.id
        careful = OpenAI()
        careful._idempotency_header = "Idempotency-Key"  # pyright: ignore[reportPrivateUsage] - there is no public name
        raw = careful.beta.threads.with_raw_response
        keys = [raw.create().http_request.headers["idempotency-key"] for _ in range(2)]
        assert keys[0] != keys[1]

    def messages_have_text_parts_and_pictures(self) -> None:
        thread = self._beta.threads.create().id
        first = self._messages.create(thread, role="user", content="Hi", metadata={"k": "v"})
        second = self._messages.create(
            thread,
            role="user",
            content=[
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
            ],
        )
        assert text_of(first.content) == "Hi"
        assert [part.type for part in second.content] == ["text", "image_url"]
        assert [one.id for one in self._messages.list(thread)] == [second.id, first.id]
        changed = self._messages.update(first.id, thread_id=thread, metadata={"k": "w"})
        assert changed.metadata == {"k": "w"}
        assert self._messages.retrieve(first.id, thread_id=thread).metadata == {"k": "w"}
        self._messages.delete(second.id, thread_id=thread)
        assert [one.id for one in self._messages.list(thread)] == [first.id]

    def explicit_nulls_are_like_nothing(self) -> None:
        nothing: Any = None
        assistant = self._beta.assistants.create(
            model=MODEL,
            name=None,
            description=None,
            instructions=None,
            tool_resources=None,
            metadata=nothing,
            response_format=nothing,
            temperature=None,
            top_p=None,
        )
        thread = self._beta.threads.create(
            messages=[{"role": "user", "content": HELLO, "attachments": None, "metadata": nothing}],
            metadata=nothing,
            tool_resources=None,
        )
        run = self._runs.create_and_poll(
            thread_id=thread.id,
            assistant_id=assistant.id,
            additional_instructions=None,
            additional_messages=None,
            instructions=None,
            max_completion_tokens=None,
            max_prompt_tokens=None,
            metadata=nothing,
            model=None,
            response_format=nothing,
            temperature=None,
            tool_choice=nothing,
            tools=nothing,
            top_p=None,
            truncation_strategy=nothing,
        )
        assert run.status == "completed", run

    def errors_are_the_sdks_own(self) -> None:
        refused(
            openai.NotFoundError,
            lambda: self._beta.threads.retrieve("thread_none"),
            "No thread found with id 'thread_none'.",
        )
        thread = self._thread(HANG)
        run = self._runs.create(thread, assistant_id=self._assistant)
        active = f"Thread {thread} already has an active run {run.id}."
        full = f"Can't add messages to {thread} while a run {run.id} is active."
        bad = openai.BadRequestError
        refused(bad, lambda: self._runs.create(thread, assistant_id=self._assistant), active)
        refused(bad, lambda: self._messages.create(thread, role="user", content="x"), full)
        self._runs.cancel(run.id, thread_id=thread)
        stranger = self._client.with_options(api_key="sk-wrong")
        refused(
            openai.AuthenticationError, stranger.beta.assistants.list, "Incorrect API key provided"
        )
        refused(
            bad, lambda: self._beta.assistants.create(model=MODEL, temperature=3), "temperature"
        )
