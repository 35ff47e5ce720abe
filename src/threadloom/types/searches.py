"""Searches of a vector store."""

from typing import Annotated, Literal

from pydantic import Field

from threadloom.types.filters import Filter
from threadloom.types.shared import Received, Sent
from threadloom.types.tools import HybridSearch
from threadloom.types.vector_stores import Attributes, FileText

Query = Annotated[str, Field(min_length=1, max_length=32_768)]


class SearchRanking(Received):
    """How a search ranks; `none` leaves out the reranker, the others stand for whatever the settings say."""

    ranker: Literal["none", "auto", "default-2024-11-15"] | None = None
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    hybrid_search: HybridSearch | None = None


class SearchCreate(Received):
    """POST /vector_stores/{id}/search. Queries are not rewritten, whatever `rewrite_query` says."""

    query: Query | Annotated[list[Query], Field(min_length=1, max_length=16)]
    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = None
    filters: Filter | None = None
    ranking_options: SearchRanking | None = None
    rewrite_query: bool | None = None

    @property
    def queries(self) -> list[str]:
        return [self.query] if isinstance(self.query, str) else self.query


class SearchResult(Sent):
    """A passage that was found: a file of which several were found has as many results."""

    file_id: str
    filename: str
    score: float
    attributes: Attributes
    content: list[FileText]


class SearchResults(Sent):
    """What was found, best first."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[SearchResult]
    has_more: Literal[False] = False
    next_page: None = None
