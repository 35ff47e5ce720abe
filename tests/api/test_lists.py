"""Pages: cursors in both directions, bounds, stability."""

from collections.abc import Sequence
from itertools import product

import httpx2

from tests.api.wire import Answer, Json, answer, get, make_assistant, make_run, nth, refusal

COUNT = 5
IDS = [nth("asst", number) for number in range(1, COUNT + 1)]
EMPTY: Json = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
FAULTS: list[tuple[Json, Answer]] = [
    (
        {"limit": "0"},
        refusal(
            400,
            "Invalid 'limit': integer below minimum value. Expected a value >= 1, but got 0 instead.",
            param="limit",
            code="integer_below_min_value",
        ),
    ),
    (
        {"limit": "101"},
        refusal(
            400,
            "Invalid 'limit': integer above maximum value. Expected a value <= 100, but got 101 instead.",
            param="limit",
            code="integer_above_max_value",
        ),
    ),
    (
        {"limit": "many"},
        refusal(
            400,
            "Invalid type for 'limit': expected an integer, but got a string instead.",
            param="limit",
            code="invalid_type",
        ),
    ),
    (
        {"order": "up"},
        refusal(
            400,
            "Invalid value: 'up'. Supported values are: 'asc' and 'desc'.",
            param="order",
            code="invalid_value",
        ),
    ),
]


async def make(raw: httpx2.AsyncClient, count: int) -> None:
    for _ in range(count):
        await make_assistant(raw)


async def test_every_cursor_leads_to_the_page_it_names(raw: httpx2.AsyncClient) -> None:
    await make(raw, COUNT)
    cursors = (None, *IDS)
    for order, limit, after, before in product(("asc", "desc"), (1, 2, 100), cursors, cursors):
        given = {"order": order, "limit": limit, "after": after, "before": before}
        query = {name: value for name, value in given.items() if value is not None}
        page = await get(raw, "/assistants", **query)
        found = [assistant["id"] for assistant in page["data"]]
        between = between_cursors(IDS if order == "asc" else IDS[::-1], after, before)
        expected = between[-limit:] if before else between[:limit]
        assert (found, page["has_more"]) == (expected, len(between) > limit), query


def between_cursors(ids: Sequence[str], after: str | None, before: str | None) -> list[str]:
    start = ids.index(after) + 1 if after else 0
    end = ids.index(before) if before else len(ids)
    return list(ids[start:end])


async def test_a_page_names_its_ends(raw: httpx2.AsyncClient) -> None:
    await make(raw, 3)
    page = await get(raw, "/assistants", limit=2)
    assert set(page) == {"object", "data", "first_id", "last_id", "has_more"}
    ends = (page["object"], page["first_id"], page["last_id"], page["has_more"])
    assert ends == ("list", nth("asst", 3), nth("asst", 2), True)


async def test_the_newest_twenty_come_first(raw: httpx2.AsyncClient) -> None:
    await make(raw, 21)
    page = await get(raw, "/assistants")
    assert (page["first_id"], page["last_id"]) == (nth("asst", 21), nth("asst", 2))


async def test_an_empty_page_has_no_ends(raw: httpx2.AsyncClient) -> None:
    assert await get(raw, "/assistants") == EMPTY


async def test_the_page_after_the_last_object_is_empty(raw: httpx2.AsyncClient) -> None:
    await make(raw, 2)
    assert await get(raw, "/assistants", after=nth("asst", 1)) == EMPTY
    assert await get(raw, "/assistants", after=nth("asst", 2), order="asc") == EMPTY


async def test_paging_goes_on_from_an_object_that_was_just_deleted(raw: httpx2.AsyncClient) -> None:
    await make(raw, 4)
    await raw.delete(f"/assistants/{nth('asst', 3)}")
    older = await get(raw, "/assistants", after=nth("asst", 3))
    newer = await get(raw, "/assistants", before=nth("asst", 3))
    assert [one["id"] for one in older["data"]] == [nth("asst", 2), nth("asst", 1)]
    assert [one["id"] for one in newer["data"]] == [nth("asst", 4)]


async def test_an_unknown_cursor_is_refused(raw: httpx2.AsyncClient) -> None:
    for name in ("after", "before"):
        refused = await raw.get("/assistants", params={name: "asst_unknown"})
        assert answer(refused) == refusal(
            400,
            f"Invalid '{name}': no assistant found with id 'asst_unknown'.",
            param=name,
            code="invalid_value",
        )


async def test_an_empty_cursor_is_none(raw: httpx2.AsyncClient) -> None:
    await make(raw, 1)
    assert await get(raw, "/assistants", after="", before="") == await get(raw, "/assistants")


async def test_every_list_has_the_same_bounds(raw: httpx2.AsyncClient) -> None:
    run = await make_run(raw)
    thread = f"/threads/{run['thread_id']}"
    steps = f"{thread}/runs/{run['id']}/steps"
    lists = ["/assistants", "/threads", "/runs", f"{thread}/messages", f"{thread}/runs", steps]
    for path, (query, refused) in product(lists, FAULTS):
        assert answer(await raw.get(path, params=query)) == refused, path
    for path in lists:
        assert (await get(raw, path, limit=100))["has_more"] is False
