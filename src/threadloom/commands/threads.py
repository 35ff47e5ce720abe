"""`threadloom threads`."""

from collections.abc import Sequence

from threadloom.api import messages, threads
from threadloom.api.context import page_of
from threadloom.commands.projects import Scope, opened
from threadloom.db.database import ProjectDatabase
from threadloom.db.tx import PageQuery
from threadloom.types.messages import Message
from threadloom.types.shared import Deleted, Page
from threadloom.types.threads import Thread

AT_ONCE = 100


class Conversation(Thread):
    """A thread with its messages, oldest first."""

    messages: Sequence[Message]


async def page(scope: Scope, query: PageQuery) -> Page[Thread]:
    async with opened(scope) as database:
        return page_of(Thread, await database.read(threads.page, query))


async def show(scope: Scope, thread_id: str, newest: int | None) -> Conversation:
    """The thread with its newest messages, or with all."""
    async with opened(scope) as database:
        thread = await threads.retrieve_thread(thread_id, database)
        said = await newest_messages(database, thread_id, newest)
    return Conversation.model_validate(
        dict(thread) | {"metadata_": thread.metadata, "messages": said}
    )


async def newest_messages(
    database: ProjectDatabase, thread_id: str, wanted: int | None
) -> list[Message]:
    """Oldest first; read in pieces, because threads may be long."""
    found: list[Message] = []
    more = True
    while more and (wanted is None or len(found) < wanted):
        limit = AT_ONCE if wanted is None else min(AT_ONCE, wanted - len(found))
        query = PageQuery(limit, after=found[-1].id if found else None)
        piece = await messages.list_messages(thread_id, query, database)
        found += piece.data
        more = piece.has_more
    return found[::-1]


async def delete(scope: Scope, thread_id: str) -> Deleted:
    async with opened(scope) as database:
        return await threads.delete_thread(thread_id, database)
