"""What handlers are given: the project's database, the page they are asked for, ids that look like ids."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Query, Request
from pydantic import AfterValidator

from threadloom.api.keys import Keys
from threadloom.blobs import Blobs
from threadloom.config import Settings
from threadloom.db.database import Database, ProjectDatabase
from threadloom.db.tx import Order, PageQuery, Rows
from threadloom.events import Feed
from threadloom.llm.chat import Models
from threadloom.types.shared import Page, Sent, fault

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


async def context(request: Request) -> Context:
    return request.app.state.context


async def project_database(request: Request) -> ProjectDatabase:
    """The database as the key's project sees it; the edge has checked the key."""
    database: Database = request.app.state.context.database
    return database.project(request.scope["project_id"])


async def page_query(
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Order = "desc",
    after: str | None = None,
    before: str | None = None,
) -> PageQuery:
    return PageQuery(limit, order, after, before)


def begins_with(prefix: str, param: str) -> Callable[[str], str]:
    """A check that an id is of the right kind, in the hosted service's words."""

    def check(value: str) -> str:
        if not value.startswith(prefix):
            raise fault(
                "invalid_value",
                f"Invalid '{param}': '{value}'. Expected an ID that begins with '{prefix}'.",
            )
        return value

    return check


Server = Annotated[Context, Depends(context)]
Db = Annotated[ProjectDatabase, Depends(project_database)]
Listing = Annotated[PageQuery, Depends(page_query)]
AssistantId = Annotated[str, AfterValidator(begins_with("asst", "assistant_id"))]
ThreadId = Annotated[str, AfterValidator(begins_with("thread", "thread_id"))]
MessageId = Annotated[str, AfterValidator(begins_with("msg", "message_id"))]
RunId = Annotated[str, AfterValidator(begins_with("run", "run_id"))]
StepId = Annotated[str, AfterValidator(begins_with("step", "step_id"))]


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
