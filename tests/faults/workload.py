"""What the users do: talk, answer calls, cancel, upload and ask, list, and try what is not theirs."""

import asyncio
import random
import secrets
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.caller import Answered, Caller, GaveUp
from tests.faults.case import TERMINAL
from tests.faults.history import Expected, History, Json, now

FUNCTION: Json = {"type": "function", "function": {"name": "look", "parameters": {}}}
SEARCH: Json = {"type": "file_search"}
SMALL_CHUNKS: Json = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 50},
}
KEPT = 20
"""Files of a user that it looks for once more in the end."""
LONG = 400
"""Sentences of a file whose chunks are committed in several groups."""
POLL = 0.3


@dataclass
class Known:
    """Paths of objects by project, for those who try what is not theirs."""

    paths: dict[str, deque[str]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=200))
    )

    def add(self, project: str, *paths: str) -> None:
        self.paths[project].extend(paths)

    def foreign(self, project: str) -> str | None:
        others = [path for other, paths in self.paths.items() if other != project for path in paths]
        return random.choice(others) if others else None


class User:
    """Does one thing after the other until told to stop; what was begun is brought to its end."""

    def __init__(
        self,
        caller: Caller,
        history: History,
        known: Known,
        *,
        words: int,
        rate: int,
        rest: float = 0.0,
    ) -> None:
        """Answers have `words`, `rate` of them in a second. Between two things it rests for so many seconds."""
        self._caller = caller
        self._history = history
        self._known = known
        self._words = words
        self._rate = rate
        self._rest = rest
        self._assistant = ""
        self._store = ""
        self._files: deque[tuple[str, str]] = deque(maxlen=KEPT)
        self.gave_up: list[str] = []

    async def live(self, stop: asyncio.Event) -> None:
        habits: Sequence[Callable[[], Awaitable[None]]] = (
            *[self.talk] * 4,
            *[self.answer_calls] * 3,
            *[self.cancel] * 2,
            *[self.ask_a_file] * 3,
            *[self.browse] * 2,
        )
        while not stop.is_set():
            try:
                await random.choice(habits)()
            except GaveUp as error:
                self.gave_up.append(str(error))
            if self._rest:
                await asyncio.sleep(random.uniform(0, 2 * self._rest))

    async def look_again(self) -> None:
        """Look for what it has uploaded lately, and for what it has removed since: when all is well, by all servers.

        Who had no luck so far uploads something now: the shortest game on the slowest machine sees a file found.
        """
        try:
            if not self._files:
                await self.ask_a_file()
            for store_id, token in self._files:
                for _ in range(self._caller.choices):
                    await self._search(store_id, token)
        except GaveUp as error:
            self.gave_up.append(str(error))

    # Habits

    async def talk(self) -> None:
        """A new thread, and one or two runs on it."""
        text, answer, token = self._prompt()
        body = await self._order(text, token)
        if random.random() < 0.5:
            reading = await self._caller.start("/threads/runs", body)
            if not reading.run_id:
                return
            thread_id, run_id = reading.last["thread_id"], reading.run_id
        else:
            made = await self._made("/threads/runs", body)
            if made is None:
                return
            thread_id, run_id = made["thread_id"], made["id"]
            await self._caller.follow(path_of(thread_id, run_id), run_id)
        await self._finish(thread_id, run_id, Expected(run_id, (answer,), 0))
        if random.random() < 0.5:
            await self._talk_on(thread_id)

    async def _talk_on(self, thread_id: str) -> None:
        text, answer, token = self._prompt()
        message = {"role": "user", "content": text, "metadata": {"token": f"m-{token}"}}
        if await self._made(f"/threads/{thread_id}/messages", message) is None:
            return
        body = {"assistant_id": await self._with_tools(), "metadata": {"token": token}}
        reading = await self._caller.start(f"/threads/{thread_id}/runs", body)
        if reading.run_id:
            await self._finish(thread_id, reading.run_id, Expected(reading.run_id, (answer,), 0))

    async def answer_calls(self) -> None:
        token = new_token()
        made = await self._made("/threads/runs", await self._order("[[tool:look {}]]", token))
        if made is None:
            return
        run_id, path = made["id"], path_of(made["thread_id"], made["id"])
        reading = await self._caller.follow(path, run_id)
        run = (await self._caller.get(path)).body
        if run["status"] == "requires_action":
            [call] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
            text, answer, _ = self._prompt(token)
            outputs = {"tool_outputs": [{"tool_call_id": call["id"], "output": text}]}
            submitted = await self._caller.post(f"{path}/submit_tool_outputs", outputs)
            if submitted.ok or not submitted.sure:
                await self._caller.follow(path, run_id, reading.place)
                await self._finish(made["thread_id"], run_id, Expected(run_id, (answer,), 1))
                return
        await self._finish(made["thread_id"], run_id, None)

    async def cancel(self) -> None:
        text, _, token = self._prompt()
        made = await self._made("/threads/runs", await self._order(text, token))
        if made is None:
            return
        path = path_of(made["thread_id"], made["id"])
        await asyncio.sleep(random.uniform(0, 2 * self._words / self._rate))
        await self._caller.post(f"{path}/cancel", {})
        await self._finish(made["thread_id"], made["id"], None)
        if random.random() < 0.5:
            await self._caller.send("DELETE", f"/threads/{made['thread_id']}")

    async def ask_a_file(self) -> None:
        token = new_token()
        name = f"{token}.txt"
        sentence = f"The number of {token} is {random.randrange(10**6)}. "
        content = (sentence * random.choice((10, 10, LONG))).encode()
        file = await self._caller.upload(name, content)
        if not file.ok:
            return
        file_id: str = file.body["id"]
        self._known.add(self._caller.project, f"/files/{file_id}", f"/files/{file_id}/content")
        store_id = await self._into_a_store(file_id, token)
        if store_id is None:
            return
        place = f"/vector_stores/{store_id}/files/{file_id}"
        status = await self._ingested(place)
        await self._caller.get(f"/files/{file_id}/content")
        if status == "completed":
            self._files.append((store_id, token))
            await self._search(store_id, token)
            if random.random() < 0.7:
                await self._ask(store_id, token)
        if random.random() < 0.3:
            await self._remove(random.choice((place, f"/files/{file_id}")), store_id, token)

    async def _into_a_store(self, file_id: str, token: str) -> str | None:
        """Into the last vector store beside others, or into a new one."""
        if self._store and random.random() < 0.5:
            path = f"/vector_stores/{self._store}/files"
            body: Json = {"file_id": file_id, "chunking_strategy": SMALL_CHUNKS}
            return None if await self._made(path, body) is None else self._store
        body = {
            "file_ids": [file_id],
            "chunking_strategy": SMALL_CHUNKS,
            "metadata": {"token": token},
        }
        made = await self._made("/vector_stores", body)
        if made is None:
            return None
        self._store = made["id"]
        return self._store

    async def _search(self, store_id: str, token: str) -> None:
        """The checker judges what is found."""
        query = {"query": f"The number of {token}"}
        await self._caller.post(f"/vector_stores/{store_id}/search", query)

    async def _remove(self, path: str, store_id: str, token: str) -> None:
        await self._caller.send("DELETE", path)
        await self._search(store_id, token)

    async def _ask(self, store_id: str, token: str) -> None:
        question = f'[[tool:file_search {{"queries": ["the number of {token}"]}}]]'
        order = await self._order(question, token)
        order["tool_resources"] = {"file_search": {"vector_store_ids": [store_id]}}
        reading = await self._caller.start("/threads/runs", order)
        if reading.run_id:
            thread_id = reading.last["thread_id"]
            await self._finish(thread_id, reading.run_id, Expected(reading.run_id, None, 1))

    async def browse(self) -> None:
        for path in ("/runs?limit=50", "/files?limit=50", "/vector_stores?limit=50"):
            await self._caller.get(path)
        own = list(self._known.paths[self._caller.project])
        if own:
            await self._caller.get(random.choice(own))
        if foreign := self._known.foreign(self._caller.project):
            await self._caller.get(foreign)
            if foreign.endswith("/messages"):
                message = {"role": "user", "content": "Hello", "metadata": {"token": new_token()}}
                await self._caller.post(foreign, message)

    # Their parts

    def _prompt(self, token: str = "") -> tuple[str, str, str]:
        """What is asked, what is answered, and what nothing else contains."""
        token = token or new_token()
        answer = " ".join(f"word{random.randrange(100)}" for _ in range(self._words))
        return f"[[rate:{self._rate}]][[text:{answer}]] #{token}", answer, token

    async def _with_tools(self) -> str:
        if not self._assistant:
            body = {
                "model": "scripted",
                "tools": [FUNCTION, SEARCH],
                "metadata": {"token": new_token()},
            }
            made = await self._caller.post("/assistants", body)
            self._assistant = made.body["id"]
        return self._assistant

    async def _order(self, text: str, token: str) -> Json:
        if "#" not in text:
            text = f"{text} #{token}"
        message = {"role": "user", "content": text, "metadata": {"token": f"m-{token}"}}
        return {
            "assistant_id": await self._with_tools(),
            "thread": {"messages": [message], "metadata": {"token": f"t-{token}"}},
            "metadata": {"token": token},
        }

    async def _made(self, path: str, body: Json) -> Any:
        """The object; None when it was refused, which a try that came to nothing may cause."""
        made: Answered = await self._caller.post(path, body)
        if not made.ok:
            return None
        if made.body["object"] == "thread.run":
            thread = f"/threads/{made.body['thread_id']}"
            self._know_run(thread, made.body["id"])
        return made.body

    def _know_run(self, thread: str, run_id: str) -> None:
        run = f"{thread}/runs/{run_id}"
        self._known.add(self._caller.project, thread, f"{thread}/messages", run, f"{run}/steps")

    async def _finish(self, thread_id: str, run_id: str, expected: Expected | None) -> None:
        """Poll until the run has ended. Raises GaveUp when it takes too long."""
        self._know_run(f"/threads/{thread_id}", run_id)
        if expected:
            self._history.add(expected)
        await self._until(path_of(thread_id, run_id), TERMINAL | {"requires_action"})

    async def _ingested(self, path: str) -> str:
        return await self._until(path, frozenset({"completed", "failed", "cancelled"}))

    async def _until(self, path: str, statuses: frozenset[str]) -> str:
        deadline = now() + self._caller.patience
        while now() < deadline:
            answer = await self._caller.get(path)
            if not answer.ok or answer.body["status"] in statuses:
                return answer.body.get("status", "")
            await asyncio.sleep(POLL)
        raise GaveUp(f"{path} does not end")


def new_token() -> str:
    return secrets.token_hex(6)


def path_of(thread_id: str, run_id: str) -> str:
    return f"/threads/{thread_id}/runs/{run_id}"
