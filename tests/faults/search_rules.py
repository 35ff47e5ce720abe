"""What searches found: I1."""

from collections.abc import Iterator
from typing import NamedTuple

from tests.faults.case import Case, is_success
from tests.faults.history import History, Json, Request


class Place(NamedTuple):
    """A file in a vector store."""

    store_id: str
    file_id: str


class Lives:
    """When files were seen complete, and when somebody asked for their removal, and was told of it, by the clock of the history."""

    def __init__(self, history: History) -> None:
        self.completed: dict[str, float] = {}
        self.leaving: dict[str, float] = {}
        self.gone: dict[str, float] = {}
        for request in history.of(Request):
            if request.method == "DELETE":
                first = self.leaving.get(request.path, request.began)
                self.leaving[request.path] = min(first, request.began)
                if is_success(request):
                    self.gone.setdefault(request.path, request.ended)
            elif is_success(request) and (request.answer or {}).get("status") == "completed":
                self.completed.setdefault(request.path, request.ended)

    def must_be_found(self, place: Place, search: Request) -> bool:
        left = min(self.leaving.get(path, search.ended) for path in removals(place))
        seen = self.completed.get(path_of(place), search.began)
        return seen < search.began and left >= search.ended

    def must_not_be_found(self, place: Place, search: Request) -> bool:
        return min(self.gone.get(path, search.began) for path in removals(place)) < search.began


def path_of(place: Place) -> str:
    return f"/vector_stores/{place.store_id}/files/{place.file_id}"


def removals(place: Place) -> tuple[str, ...]:
    """What a request deletes that takes the file out of the vector store."""
    return path_of(place), f"/files/{place.file_id}", f"/vector_stores/{place.store_id}"


def unfound(case: Case) -> Iterator[str]:
    """What was complete before a search is found by it, and what was removed before it is not."""
    files = {
        str((request.body or {})["filename"]).removesuffix(".txt"): str(answer["id"])
        for request, answer in case.acknowledged
        if request.path == "/files"
    }
    lives = Lives(case.history)
    for search in case.history.of(Request):
        if search.path.endswith("/search") and is_success(search):
            token = str((search.body or {})["query"]).rpartition(" ")[2]
            if token in files:
                place = Place(search.path.split("/")[2], files[token])
                found = tells_of(search.answer or {}, place.file_id, token)
                if not found and lives.must_be_found(place, search):
                    yield f"{path_of(place)} is complete and is not found"
                if found and lives.must_not_be_found(place, search):
                    yield f"{path_of(place)} is removed and is found"


def tells_of(answer: Json, file_id: str, token: str) -> bool:
    return any(
        hit["file_id"] == file_id and any(token in part["text"] for part in hit["content"])
        for hit in answer["data"]
    )
