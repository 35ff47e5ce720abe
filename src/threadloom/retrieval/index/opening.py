"""Which index the settings ask for."""

from threadloom.config import Settings
from threadloom.db.database import Database
from threadloom.retrieval.index import Index
from threadloom.retrieval.index.faiss_index import FaissIndex


def open_index(settings: Settings, database: Database) -> Index:
    """Close it before the database."""
    return FaissIndex(database, settings.data_dir / "index", settings.file_search.index_memory)
