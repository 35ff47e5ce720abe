"""An archive as people would have saved it: `python -m tests.archive.generator PATH [ASSISTANTS THREADS MESSAGES]`.

List pages with the newest first, as the hosted service sent them. Everything follows from its numbers, and no two runs differ.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

BEGAN = 1_700_000_000
PER_PAGE = 100
SENTENCE = "What the customer asked for, and what was answered, in a sentence of a usual length. "


def id_of(prefix: str, number: int) -> str:
    """As long as the hosted service's."""
    return f"{prefix}{number:024d}"


def assistant(number: int) -> dict[str, Any]:
    return {
        "id": id_of("asst_", number),
        "object": "assistant",
        "created_at": BEGAN + number,
        "name": f"Assistant {number}",
        "description": None,
        "model": "gpt-4o",
        "instructions": f"You are assistant number {number}.",
        "tools": [{"type": "file_search"}] if number % 3 == 0 else [],
        "tool_resources": {},
        "metadata": {"number": str(number)},
        "temperature": 1.0,
        "top_p": 1.0,
        "response_format": "auto",
    }


def thread(number: int) -> dict[str, Any]:
    return {
        "id": id_of("thread_", number),
        "object": "thread",
        "created_at": BEGAN + 10 * number,
        "metadata": {},
        "tool_resources": {},
    }


def message(number: int, *, per_thread: int, assistants: int) -> dict[str, Any]:
    """Two of them share each second."""
    thread_number, place = divmod(number, per_thread)
    by_assistant = place % 2 == 1
    text = f"{number}: {SENTENCE * (1 + number % 12)}"
    return {
        "id": id_of("msg_", number),
        "object": "thread.message",
        "created_at": BEGAN + 10 * thread_number + place // 2,
        "thread_id": id_of("thread_", thread_number),
        "role": "assistant" if by_assistant else "user",
        "assistant_id": id_of("asst_", thread_number % assistants) if by_assistant else None,
        "run_id": None,
        "content": [{"type": "text", "text": {"value": text, "annotations": []}}],
        "attachments": [],
        "metadata": {},
    }


def write_pages(folder: Path, objects: Sequence[dict[str, Any]], name: str) -> None:
    """List pages, the newest first."""
    newest_first = objects[::-1]
    for page, start in enumerate(range(0, len(objects), PER_PAGE), 1):
        data = newest_first[start : start + PER_PAGE]
        document = {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"],
            "last_id": data[-1]["id"],
            "has_more": start + PER_PAGE < len(objects),
        }
        (folder / f"{name}-{page}.json").write_bytes(orjson.dumps(document))


def write_archive(folder: Path, *, assistants: int, threads: int, messages: int) -> None:
    """The directory is made."""
    folder.mkdir(parents=True)
    per_thread = messages // threads
    write_pages(folder, [assistant(one) for one in range(assistants)], "assistants")
    write_pages(folder, [thread(one) for one in range(threads)], "threads")
    for first in range(0, messages, 10_000):
        some = [
            message(one, per_thread=per_thread, assistants=assistants)
            for one in range(first, min(first + 10_000, messages))
        ]
        write_pages(folder, some, f"messages-{first // 10_000}")


if __name__ == "__main__":
    numbers = [int(one) for one in sys.argv[2:]] or [500, 5_000, 50_000]
    write_archive(Path(sys.argv[1]), assistants=numbers[0], threads=numbers[1], messages=numbers[2])
