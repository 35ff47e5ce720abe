"""How long things are kept that nobody deletes."""

from pydantic import Field

from threadloom.config.values import Duration, Section


class Retention(Section):
    """What workers delete by themselves, a little each minute. Unset: nothing."""

    threads: Duration | None = Field(
        default=None,
        description="Delete threads this long after their last message or run, with all that is in them. Unset: never.",
    )
    files: Duration | None = Field(
        default=None,
        description="Delete files this long after they were uploaded, wherever they are used. Unset: never.",
    )
    vector_stores: Duration | None = Field(
        default=None,
        description="Delete vector stores this long after they were last used. Unset: never.",
    )
    usage: Duration | None = Field(
        default=None,
        description="Forget what was used on days this long ago; a monthly budget needs 31 days. Unset: never.",
    )
