"""Which embedder the settings ask for."""

import httpx2

from threadloom.config import Settings
from threadloom.errors import StartError
from threadloom.retrieval.embedded_embedder import EmbeddedEmbedder
from threadloom.retrieval.embedder import Embedder
from threadloom.retrieval.remote_embedder import RemoteEmbedder


def open_embedder(settings: Settings) -> Embedder:
    """Close it at the end. Raises StartError."""
    embeddings = settings.embeddings
    if embeddings.base_url is None:
        return EmbeddedEmbedder()
    if embeddings.model is None:
        raise StartError("Setting embeddings.model: name the model of embeddings.base_url.")
    return RemoteEmbedder(httpx2.AsyncClient(), embeddings, embeddings.model)
