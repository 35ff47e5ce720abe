"""What handlers are given: the project's database, the page they are asked for, ids that look like ids."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, TypeVar

from fastapi import Depends, Query, Request, Response

from threadloom.api.gate import Gate
from threadloom.api.keys import Keys
from threadloom.blobs import Blobs
from threadloom.config import Settings
from threadloom.db.database import Database, ProjectDatabase
from threadloom.db.tx import Order, PageQuery, Rows
from threadloom.events import Feed
from threadloom.llm.chat import Models
from threadloom.retrieval.embedder import Embedder
from threadloom.retrieval.search import Search
from threadloom.types.shared import Page, Sent, id_of
from threadloom.types.vector_stores import FileId

SentObject = TypeVar("SentObject", bound=Sent)


@dataclass(frozen=True)
class Context:
    """What the HTTP process was composed of."""

    settings: Settings
    database: Database
    feed: Feed
    models: Models
    keys: Keys
    blobs: Blobs
    embedder: Embedder
    search: Search

    @cached_property
    def gate(self) -> Gate:
        """Who is let in; one for the process."""
        return Gate(self.settings.server.max_requests)

    @property
    def takes_tables(self) -> bool:
        """Whether vector stores take tables too."""
        return self.settings.file_search.tables


async def context(request: Request) -> Context:
    return request.app.state.context


async def project_database(request: Request) -> ProjectDatabase:
    """The database as the key's project sees it; the edge has checked the key. A request with an `Idempotency-Key` has its own."""
    database: ProjectDatabase | None = request.scope.get("project_database")
    if database is None:
        shared: Database = request.app.state.context.database
        database = shared.project(request.scope["project_id"])
    return database


async def page_query(
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Order = "desc",
    after: str | None = None,
    before: str | None = None,
) -> PageQuery:
    return PageQuery(limit, order, after, before)


Server = Annotated[Context, Depends(context)]
Db = Annotated[ProjectDatabase, Depends(project_database)]
Listing = Annotated[PageQuery, Depends(page_query)]
ThreadId = Annotated[str, id_of("thread")]
MessageId = Annotated[str, id_of("msg")]
RunId = Annotated[str, id_of("run")]
StepId = Annotated[str, id_of("step")]
VectorStoreId = Annotated[str, id_of("vs")]
FileBatchId = Annotated[str, id_of("vsfb")]
StoreFileId = FileId


def page_of(kind: type[SentObject], rows: Rows) -> Page[SentObject]:
    """A page of rows as it is sent."""
    data = [kind.model_validate(row) for row in rows.rows]
    return Page[SentObject].model_construct(
        object="list",
        data=data,
        first_id=rows.rows[0]["id"] if data else None,
        last_id=rows.rows[-1]["id"] if data else None,
        has_more=rows.has_more,
    )


def ask_again(server: Context, response: Response) -> None:
    """Tell SDKs when to poll again."""
    poll_after = server.settings.server.poll_after
    response.headers["openai-poll-after-ms"] = str(round(poll_after * 1000))
