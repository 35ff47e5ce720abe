"""Assistants."""

from fastapi import APIRouter
from sqlalchemy import select

from threadloom.api.context import Db, Listing, Server, page_of
from threadloom.api.route import AssistantsRoute
from threadloom.db.rows import AssistantRow
from threadloom.db.tx import PageQuery, ProjectTx, Rows, Shown
from threadloom.errors import InvalidRequest
from threadloom.retrieval.resources import chosen_resources, with_living
from threadloom.types.assistants import Assistant, AssistantCreate, AssistantId, AssistantModify
from threadloom.types.shared import Deleted, Page
from threadloom.types.tools import stored_option, with_empty_resources

router = APIRouter(
    prefix="/v1/assistants",
    tags=["Assistants"],
    route_class=AssistantsRoute,
)
CLEARABLE = ("name", "description", "instructions")
REPLACED = ("model", "tools", "temperature", "top_p", "reasoning_effort")


@router.post("")
async def create_assistant(body: AssistantCreate, db: Db, server: Server) -> Assistant:
    return Assistant.model_validate(await db.write(create, body, tables=server.takes_tables))


@router.get("")
async def list_assistants(query: Listing, db: Db) -> Page[Assistant]:
    return page_of(Assistant, await db.read(page, query))


@router.get("/{assistant_id}")
async def retrieve_assistant(assistant_id: AssistantId, db: Db) -> Assistant:
    return Assistant.model_validate(await db.read(shown, assistant_id))


@router.post("/{assistant_id}")
async def modify_assistant(
    assistant_id: AssistantId, body: AssistantModify, db: Db, server: Server
) -> Assistant:
    return Assistant.model_validate(
        await db.write(modify, assistant_id, body, tables=server.takes_tables)
    )


@router.delete("/{assistant_id}")
async def delete_assistant(assistant_id: AssistantId, db: Db) -> Deleted:
    await db.write(delete, assistant_id)
    return Deleted(id=assistant_id, object="assistant.deleted", deleted=True)


def shown(tx: ProjectTx, assistant_id: str) -> Shown:
    return with_living(tx, [tx.show(AssistantRow, assistant_id)])[0]


def page(tx: ProjectTx, query: PageQuery) -> Rows:
    rows = tx.page(AssistantRow, query)
    return Rows(with_living(tx, rows.rows), rows.has_more)


def create(
    tx: ProjectTx, body: AssistantCreate, *, tables: bool, assistant_id: str | None = None
) -> AssistantRow:
    """A new assistant, with an id of its own or with this one, which nobody else may have."""
    resources = chosen_resources(tx, body.tool_resources, tables=tables)
    if assistant_id is not None:
        refuse_taken(tx, assistant_id)
    assistant = AssistantRow(
        id=assistant_id or tx.ids.new("asst_"),
        project_id=tx.project_id,
        created_at=tx.now,
        name=body.name,
        description=body.description,
        model=body.model,
        instructions=body.instructions,
        tools=body.tools or [],
        tool_resources=with_empty_resources(body.tools or [], resources),
        metadata_=body.metadata or {},
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        response_format=stored_option(body.response_format, "auto"),
        reasoning_effort=body.reasoning_effort,
    )
    tx.session.add(assistant)
    tx.session.flush()
    return assistant


def refuse_taken(tx: ProjectTx, assistant_id: str) -> None:
    """Also when it is another project's: an id stands for one assistant."""
    taken = select(AssistantRow.seq).where(AssistantRow.id == assistant_id)
    if tx.session.scalar(taken) is not None:
        raise InvalidRequest(f"There is an assistant with id '{assistant_id}' already.")


def modify(
    tx: ProjectTx, assistant_id: str, body: AssistantModify, *, tables: bool
) -> AssistantRow:
    """Change the given keys only; null clears texts and leaves everything else as it is."""
    assistant = tx.get(AssistantRow, assistant_id, lock=True)
    for name in CLEARABLE:
        if name in body.model_fields_set:
            setattr(assistant, name, getattr(body, name))
    for name in REPLACED:
        if (value := getattr(body, name)) is not None:
            setattr(assistant, name, value)
    if body.metadata is not None:
        assistant.metadata_ = body.metadata
    assistant.response_format = stored_option(body.response_format, assistant.response_format)
    resources = chosen_resources(tx, body.tool_resources, assistant.tool_resources, tables=tables)
    assistant.tool_resources = with_empty_resources(assistant.tools, resources)
    return assistant


def delete(tx: ProjectTx, assistant_id: str) -> None:
    tx.delete(tx.get(AssistantRow, assistant_id, lock=True))
