"""`threadloom reindex`: embed again what another model embedded."""

import structlog
from rich.progress import Progress as Bar

from threadloom.api.context import Context
from threadloom.commands.database import open_database
from threadloom.commands.opened import closing
from threadloom.config import Settings
from threadloom.errors import StartError
from threadloom.retrieval.embedder import EmbeddingError
from threadloom.retrieval.embedders import open_embedder
from threadloom.retrieval.reindex import count_outdated
from threadloom.retrieval.reindex import reindex as embed_again

log = structlog.get_logger()


async def reindex(settings: Settings) -> int:
    """Answers with how many files there were to do. Raises StartError."""
    done = 0
    async with (
        open_database(settings) as database,
        closing(open_embedder(settings)) as embedder,
    ):
        with Bar() as bar:
            task = bar.add_task(f"Embedding with {embedder.model}", total=None)
            try:
                async for progress in embed_again(database, embedder):
                    done = progress.done
                    bar.update(task, completed=done, total=progress.total)
            except EmbeddingError as error:
                raise StartError(f"Stopped after {done} files: {error}") from None
    return done


async def warn_of_outdated(context: Context) -> None:
    """Say at the start that some files are found by their words only."""
    model = context.embedder.model
    if count := await context.database.read(count_outdated, model):
        log.warning(
            "files were embedded by another model: run `threadloom reindex`",
            files=count,
            model=model,
        )
