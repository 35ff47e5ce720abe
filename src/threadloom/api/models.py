"""Models."""

from fastapi import APIRouter

from threadloom.api.context import Server
from threadloom.errors import NotFound
from threadloom.llm.chat import ModelDescription
from threadloom.types.models import Model, ModelList

router = APIRouter(prefix="/v1/models", tags=["Models"])


@router.get("")
async def list_models(server: Server) -> ModelList:
    return ModelList(data=[sent(one) for one in await server.models.available()])


@router.get("/{model:path}")
async def retrieve_model(model: str, server: Server) -> Model:
    for one in await server.models.available():
        if one.id == model:
            return sent(one)
    raise NotFound(
        f"The model '{model}' does not exist. `GET /v1/models` lists those that do; "
        "an alias in `THREADLOOM_ALIASES` can lead from this name to one of them.",
        param="model",
        code="model_not_found",
    )


def sent(one: ModelDescription) -> Model:
    return Model(id=one.id, created=one.created, owned_by=one.owned_by, description=one.description)
