"""Which index the settings ask for."""

from threadloom.config import Settings
from threadloom.db.database import Database
from threadloom.retrieval.index import Index, pgvector_table
from threadloom.retrieval.index.faiss_index import FaissIndex
from threadloom.retrieval.index.pgvector_index import PgvectorIndex


def open_index(settings: Settings, database: Database) -> Index:
    """Close it before the database. Raises StartError when the database cannot do what is asked for."""
    directory, memory = settings.data_dir / "index", settings.file_search.index_memory
    if settings.file_search.index == "faiss":
        return FaissIndex(database, directory, memory)
    pgvector_table.prepare(database.engine)
    return PgvectorIndex(database, directory, memory)
