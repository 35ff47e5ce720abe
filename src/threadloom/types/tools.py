"""Tools, what they may use, and how a model is told to choose among them."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from threadloom.types.shared import (
    Echoed,
    JsonObject,
    Metadata,
    Received,
    fault,
    id_of,
    is_none,
    null_is,
    only_one_of,
)
from threadloom.types.vector_stores import ChunkingStrategy, FileId

RANKER = "default_2024_08_21"
Ranker = Annotated[Literal["auto", "default_2024_08_21"], null_is(RANKER)]
FUNCTION_NAME = r"^[a-zA-Z0-9_-]+$"
NO_PARAMETERS: JsonObject = {"type": "object", "properties": {}}
VectorStoreId = Annotated[str, id_of("vs")]
MAX_CODE_FILES = 20
BuiltInType = Literal["code_interpreter", "file_search"]


class CodeInterpreterTool(Echoed):
    """Runs Python."""

    type: Literal["code_interpreter"]


class HybridSearch(Echoed):
    """Weights of the two halves of search."""

    embedding_weight: Annotated[float, Field(ge=0)]
    text_weight: Annotated[float, Field(ge=0)]

    @property
    def share(self) -> float | None:
        """The part of likeness in a score; None leaves it to the embedder."""
        total = self.embedding_weight + self.text_weight
        return self.embedding_weight / total if total > 0 else None


class RankingOptions(Echoed):
    """How file search ranks; `auto` reads back as the ranker it stands for."""

    ranker: Ranker = RANKER
    score_threshold: Annotated[float, Field(ge=0, le=1)]
    hybrid_search: HybridSearch | None = Field(default=None, exclude_if=is_none)

    @field_validator("ranker")
    @classmethod
    def concrete(cls, _: Ranker) -> Ranker:
        return RANKER


UNRANKED = RankingOptions(score_threshold=0.0)


class FileSearchOptions(Echoed):
    """Options of file search."""

    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = Field(
        default=None, exclude_if=is_none
    )
    ranking_options: Annotated[RankingOptions, null_is(UNRANKED)] = UNRANKED


class FileSearchTool(Echoed):
    """Searches documents."""

    type: Literal["file_search"]
    file_search: Annotated[FileSearchOptions, null_is(FileSearchOptions())] = FileSearchOptions()


class FunctionDefinition(Echoed):
    """A function the client runs."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=FUNCTION_NAME)]
    description: str | None = Field(default=None, exclude_if=is_none)
    parameters: Annotated[JsonObject, null_is(NO_PARAMETERS)] = NO_PARAMETERS
    strict: Annotated[bool, null_is(default=False)] = False


class FunctionTool(Echoed):
    """A function the client runs."""

    type: Literal["function"]
    function: FunctionDefinition


Tool = Annotated[CodeInterpreterTool | FileSearchTool | FunctionTool, Field(discriminator="type")]


class CodeInterpreterResources(Received):
    """Files that code sees."""

    file_ids: Annotated[list[FileId], Field(max_length=MAX_CODE_FILES)] | None = None


class FileSearchResources(Received):
    """Stores that file search looks into."""

    vector_store_ids: Annotated[list[VectorStoreId], Field(max_length=1)] | None = None


class VectorStoreHelper(Received):
    """A store to be made from files while creating an assistant or thread."""

    file_ids: Annotated[list[FileId], Field(max_length=10_000)] | None = None
    chunking_strategy: ChunkingStrategy | None = None
    metadata: Metadata | None = None


class FileSearchResourcesCreate(FileSearchResources):
    """Stores that file search looks into: one that is there, or one to be made."""

    vector_stores: Annotated[list[VectorStoreHelper], Field(max_length=1)] | None = None

    @model_validator(mode="after")
    def either_way(self) -> Self:
        only_one_of(self, "vector_store_ids", "vector_stores")
        return self


class ToolResourcesModify(Received):
    """What tools may use."""

    code_interpreter: CodeInterpreterResources | None = None
    file_search: FileSearchResources | None = None


class ToolResourcesCreate(ToolResourcesModify):
    """What tools may use, also if it is to be made first."""

    file_search: FileSearchResourcesCreate | None = None  # pyright: ignore[reportIncompatibleVariableOverride]


ToolResources = dict[str, dict[str, list[str]]]


class ResponseFormatSchema(Received):
    """A JSON schema for the answer."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=FUNCTION_NAME)]
    description: str | None = Field(default=None, exclude_if=is_none)
    schema_: JsonObject | None = Field(default=None, alias="schema", exclude_if=is_none)
    strict: bool | None = Field(default=None, exclude_if=is_none)


class JsonSchemaFormat(Received):
    """An answer that follows a schema."""

    type: Literal["json_schema"]
    json_schema: ResponseFormatSchema


class PlainFormat(Received):
    """Text, or any JSON object."""

    type: Literal["text", "json_object"]


ResponseFormatCreate = (
    Literal["auto"] | Annotated[JsonSchemaFormat | PlainFormat, Field(discriminator="type")]
)
ResponseFormat = Literal["auto"] | JsonObject


class FunctionName(Received):
    """Names a function."""

    name: str


class NamedToolChoice(Received):
    """The tool that must be used."""

    type: Literal["function", "code_interpreter", "file_search"]
    function: FunctionName | None = Field(default=None, exclude_if=is_none)

    @model_validator(mode="after")
    def function_is_named(self) -> Self:
        if self.type == "function" and self.function is None:
            raise fault(
                "missing_required_parameter", "Missing required parameter: 'tool_choice.function'."
            )
        return self


ToolChoiceCreate = Literal["none", "auto", "required"] | NamedToolChoice
ToolChoice = Literal["none", "auto", "required"] | JsonObject
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(ge=0, le=1)]


def stored_option(option: str | Received | None, default: str | JsonObject) -> Any:
    """A response format or tool choice as it is stored and echoed."""
    if isinstance(option, Received):
        return option.model_dump(mode="json", by_alias=True, exclude_none=True)
    return default if option is None else option


def with_empty_resources(tools: list[Tool], resources: ToolResources) -> ToolResources:
    """A code interpreter without files reads back with an empty list."""
    if any(tool.type == "code_interpreter" for tool in tools):
        return {"code_interpreter": {"file_ids": list[str]()}} | resources
    return resources
