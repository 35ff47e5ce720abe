"""What several objects share: how we read, how we write, metadata, pages."""

from typing import Annotated, Any, Generic, Literal, LiteralString, TypeVar, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

T = TypeVar("T")
JsonObject = dict[str, Any]
UnixSeconds = int
MAX_INTEGER = 2**63 - 1
"""What both databases can store."""

MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]


class Received(BaseModel):
    """A part of a request: exact types, no unknown keys; null means "not given"."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Echoed(BaseModel):
    """A part of a request that is stored and sent back as it is, with its defaults filled in."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, from_attributes=True)


class Sent(BaseModel):
    """A part of an answer: every key present, read from a row by name."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class Page(Sent, Generic[T]):
    """One page of a list."""

    object: Literal["list"]
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(Sent):
    """The answer to DELETE."""

    id: str
    object: str
    deleted: Literal[True]


def fault(code: str, message: str) -> PydanticCustomError:
    """A fault that no type expresses, in OpenAI's words."""
    return PydanticCustomError(cast("LiteralString", code), cast("LiteralString", message))


def id_of(prefix: str, *others: str) -> AfterValidator:
    """A check that an id is of the right kind. `others` are beginnings that imported ids have."""

    def check(value: str) -> str:
        if not value.startswith((prefix, *others)):
            # Told by the code, because only the code knows the place.
            raise PydanticCustomError("wrong_prefix", "wrong prefix", {"prefix": prefix})
        return value

    return AfterValidator(check)


def only_one_of(body: BaseModel, *names: str) -> None:
    """Refuse keys that exclude each other."""
    if sum(bool(getattr(body, name)) for name in names) > 1:
        raise PydanticCustomError("exclusive", "mutually exclusive", {"names": names})


def null_is(default: object) -> BeforeValidator:
    """For keys with a default that clients also send as null."""
    return BeforeValidator(lambda value: default if value is None else value)


def is_none(value: object) -> bool:
    """For optional keys that the schema does not allow to be null."""
    return value is None
