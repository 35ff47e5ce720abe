"""`threadloom stores`."""

from collections.abc import Sequence

from threadloom.api import vector_store_files, vector_stores
from threadloom.commands.database import refuse_no_database
from threadloom.commands.opened import open_context
from threadloom.commands.projects import Scope, opened, project_in, read_as, told
from threadloom.db.tx import PageQuery
from threadloom.types.searches import SearchCreate, SearchResults
from threadloom.types.shared import Page
from threadloom.types.vector_stores import VectorStore, VectorStoreFile


class StoreWithFiles(VectorStore):
    """A vector store with its newest files."""

    files: Sequence[VectorStoreFile]


async def page(scope: Scope, query: PageQuery) -> Page[VectorStore]:
    async with opened(scope) as database:
        return await vector_stores.list_vector_stores(query, database)


async def show(scope: Scope, store_id: str, newest: int) -> StoreWithFiles:
    query = PageQuery(newest)
    async with opened(scope) as database:
        store = await vector_stores.retrieve_vector_store(store_id, database)
        files = await vector_store_files.list_vector_store_files(store_id, query, database)
    return StoreWithFiles.model_validate(
        dict(store) | {"metadata_": store.metadata, "files": files.data}
    )


async def search(
    scope: Scope, store_id: str, question: str, *, limit: int, threshold: float
) -> SearchResults:
    """The best passages for a question, as the API finds them. Raises StartError."""
    ranking = {"score_threshold": threshold}
    body = {"query": question, "max_num_results": limit, "ranking_options": ranking}
    refuse_no_database(scope.settings)
    async with open_context(scope.settings) as context:
        with told():
            database = await project_in(context.database, scope.project)
            wanted = read_as(SearchCreate, body)
            return await vector_stores.search_vector_store(store_id, wanted, database, context)
