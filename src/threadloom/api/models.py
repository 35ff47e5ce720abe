"""Models."""

from collections.abc import Sequence
from dataclasses import replace

from fastapi import APIRouter

from threadloom.api.context import Server
from threadloom.db.lane import VISITOR
from threadloom.errors import NotFound
from threadloom.llm.chat import ModelDescription, ModelError, Models
from threadloom.types.models import Model, ModelList

router = APIRouter(prefix="/v1/models", tags=["Models"])


@router.get("")
async def list_models(server: Server) -> ModelList:
    return ModelList(data=[sent(one) for one in await available(server)])


@router.get("/{model:path}")
async def retrieve_model(model: str, server: Server) -> Model:
    known = {one.id: one for one in await available(server)}
    found = known.get(model) or known.get(leads_to(server.models, model))
    if found is not None:
        return sent(replace(found, id=model))
    raise NotFound(
        f"The model '{model}' does not exist. `GET /v1/models` lists those that do; "
        "an alias in `THREADLOOM_ALIASES` can lead from this name to one of them.",
        param="model",
        code="model_not_found",
    )


async def available(server: Server) -> Sequence[ModelDescription]:
    """Whoever asks waits for providers, and keeps nobody from the database."""
    if (visitor := VISITOR.get()) is not None:
        visitor.served()
    return await server.models.available()


def leads_to(models: Models, name: str) -> str:
    """The model that answers runs with this name: patterns lead to it, and the demonstration answers for every name."""
    try:
        return models.resolve(name).name
    except ModelError:
        return name


def sent(one: ModelDescription) -> Model:
    return Model(id=one.id, created=one.created, owned_by=one.owned_by, description=one.description)
