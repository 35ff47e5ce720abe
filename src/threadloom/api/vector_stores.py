"""Vector stores."""

from collections.abc import Sequence

from fastapi import APIRouter

from threadloom.api.context import Db, Listing, Server, VectorStoreId, page_of
from threadloom.api.file_counts import Tally, tally
from threadloom.api.route import VectorStoresRoute
from threadloom.db.rows import VectorStoreFileRow, VectorStoreRow
from threadloom.db.tx import PageQuery, ProjectTx, Rows, Shown, Tx
from threadloom.retrieval import stores
from threadloom.retrieval.search import Hit
from threadloom.types.searches import SearchCreate, SearchRanking, SearchResult, SearchResults
from threadloom.types.shared import Deleted, JsonObject, Page
from threadloom.types.vector_stores import (
    ExpiresAfter,
    FileText,
    VectorStore,
    VectorStoreCreate,
    VectorStoreModify,
    VectorStoreStatus,
    expiry,
    files_of,
)

router = APIRouter(
    prefix="/v1/vector_stores",
    tags=["Vector stores"],
    route_class=VectorStoresRoute,
)
RESULTS = 10
"""How many a search gives when it is not told."""


@router.post("")
async def create_vector_store(body: VectorStoreCreate, db: Db, server: Server) -> VectorStore:
    return VectorStore.model_validate(await db.write(create, body, tables=server.takes_tables))


@router.get("")
async def list_vector_stores(query: Listing, db: Db) -> Page[VectorStore]:
    return page_of(VectorStore, await db.read(page, query))


@router.get("/{vector_store_id}")
async def retrieve_vector_store(vector_store_id: VectorStoreId, db: Db) -> VectorStore:
    return VectorStore.model_validate(await db.read(shown, vector_store_id))


@router.post("/{vector_store_id}")
async def modify_vector_store(
    vector_store_id: VectorStoreId, body: VectorStoreModify, db: Db
) -> VectorStore:
    return VectorStore.model_validate(await db.write(modify, vector_store_id, body))


@router.delete("/{vector_store_id}")
async def delete_vector_store(vector_store_id: VectorStoreId, db: Db) -> Deleted:
    await db.write(delete, vector_store_id)
    return Deleted(id=vector_store_id, object="vector_store.deleted", deleted=True)


@router.post("/{vector_store_id}/search")
async def search_vector_store(
    vector_store_id: VectorStoreId, body: SearchCreate, db: Db, server: Server
) -> SearchResults:
    if await db.read(stores.is_unnoted, vector_store_id):
        await db.write(stores.touch, [vector_store_id])
    ranking = body.ranking_options or SearchRanking()
    hits = await server.search.find(
        db,
        [vector_store_id],
        body.queries,
        limit=body.max_num_results or RESULTS,
        filters=body.filters,
        score_threshold=ranking.score_threshold or 0.0,
        weight=ranking.hybrid_search and ranking.hybrid_search.share,
        ranker="none" if ranking.ranker == "none" else "auto",
    )
    return SearchResults(search_query=body.queries, data=[result(hit) for hit in hits])


def result(hit: Hit) -> SearchResult:
    return SearchResult(
        file_id=hit.file_id,
        filename=hit.filename,
        score=hit.score,
        attributes=hit.attributes,
        content=[FileText(text=hit.text)],
    )


def create(tx: ProjectTx, body: VectorStoreCreate, *, tables: bool) -> Shown:
    stores.refuse_unfit(tx, body.file_ids or (), tables=tables)
    store = stores.new_store(
        tx,
        name=body.name,
        description=body.description,
        expires_after=body.expires_after,
        metadata=body.metadata,
    )
    stores.fill(tx, store, files_of(body.file_ids, body.chunking_strategy))
    return shown(tx, store.id)


def modify(tx: ProjectTx, store_id: str, body: VectorStoreModify) -> Shown:
    """Change the given keys only; null clears the name and the expiry. What has expired does not come back."""
    store = tx.get(VectorStoreRow, store_id, lock=True)
    if "expires_after" in body.model_fields_set:
        stores.refuse_expired(tx, store)
        store.expires_after = body.expires_after
    if "name" in body.model_fields_set:
        store.name = body.name
    if body.metadata is not None:
        store.metadata_ = body.metadata
    stores.note_use(tx, store)
    tx.session.flush()
    return shown(tx, store_id)


def delete(tx: ProjectTx, store_id: str) -> None:
    stores.delete_store(tx, tx.get(VectorStoreRow, store_id, lock=True))


def shown(tx: ProjectTx, store_id: str) -> Shown:
    return with_counts(tx, [tx.show(VectorStoreRow, store_id)])[0]


def page(tx: ProjectTx, query: PageQuery) -> Rows:
    rows = tx.page(VectorStoreRow, query)
    return Rows(with_counts(tx, rows.rows), rows.has_more)


def with_counts(tx: Tx, rows: Sequence[Shown]) -> list[Shown]:
    """Stores with what is not stored but counted."""
    tallies = tally(tx, VectorStoreFileRow.vector_store_id, [row["id"] for row in rows])
    return [row | counted(row, tallies[row["id"]], tx.now) for row in rows]


def counted(row: Shown, files: Tally, now: int) -> JsonObject:
    after = row["expires_after"]
    expires_at = expiry(after and ExpiresAfter.model_validate(after), row["last_active_at"])
    status: VectorStoreStatus = "in_progress" if files.counts.in_progress else "completed"
    if expires_at is not None and now >= expires_at:
        status = "expired"
    return {
        "file_counts": files.counts,
        "usage_bytes": files.usage_bytes,
        "expires_at": expires_at,
        "status": status,
    }
