"""What came of a call of the code interpreter: for the step, for the model, for the rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from threadloom.config import CodeInterpreter as Settings
from threadloom.db.tx import Tx
from threadloom.events import RunTx
from threadloom.files.actions import insert_file
from threadloom.files.strays import abandon, keep
from threadloom.runs.sandbox_files import Taken
from threadloom.sandbox.session import DATA, Ending, Finished
from threadloom.tokens import Tokens, upper_bound
from threadloom.types.shared import JsonObject

LEAST_TOKENS = 256
"""The model hears this many tokens of the output even where nothing seems to fit."""
HEAD = 0.6
"""The share of the beginning in what is heard of a long output; the end says how it went."""
BYTES_OF_TOKEN = 4
ENCODED = frozenset(' ()<>[]%\\"')
"""What would end a link in Markdown."""

NO_OUTPUT = "The code printed nothing."
ABOUT = "About this call:"
STARTED_ANEW = (
    f"The sandbox was started anew: variables are gone, files in {DATA} are as they were."
)
LOST = (
    "The sandbox was lost before the code came to its end, and its variables with it. The next call gets a new sandbox with the files "
    f"in {DATA} as they were before this call."
)
LOST_AFTERWARDS = (
    "The sandbox was lost after the code ran, and its variables with it. The next call gets a new sandbox; files that this "
    "call wrote may be missing there."
)
STATE_LOST = f"Variables and imports are gone; files in {DATA} are still there."
STATE_KEPT = "Variables are kept."
ENDINGS: Mapping[Ending, str] = {
    "timeout": "The code ran longer than {seconds:g} seconds and was stopped.",
    "out_of_memory": (
        "The code needed more memory than the sandbox has ({memory:,} MiB) and was ended. Work on less data at a time."
    ),
    "died": "The process that ran the code exited, crashed or was killed.",
    "interrupted": "The code was interrupted.",
}
"""The others speak for themselves."""


@dataclass(frozen=True)
class KeptPicture:
    """A picture whose File is made when the call is written down."""

    file_id: str
    filename: str
    size: int
    blob: str


@dataclass
class Outcome:
    """What came of a call. `endings` are sentences for everybody, `remarks` for the model only."""

    printed: list[str] = field(default_factory=list[str])
    pictures: list[KeptPicture] = field(default_factory=list[KeptPicture])
    endings: list[str] = field(default_factory=list[str])
    remarks: list[str] = field(default_factory=list[str])
    taken: Taken = field(default_factory=Taken)
    finished: Finished | None = None

    @property
    def text(self) -> str:
        return "".join(self.printed)

    def outputs(self) -> list[JsonObject]:
        """As the step shows them."""
        logs = logs_of(self.text, self.endings)
        shown: list[JsonObject] = [{"type": "logs", "logs": logs}] if logs else []
        shown += [{"type": "image", "image": {"file_id": one.file_id}} for one in self.pictures]
        return shown

    def heard(self, room: int, tokens: Tokens) -> str:
        """What the model is told: the output, shortened in its middle to fit, and what else there is to know."""
        about = self._about()
        note = "\n".join((ABOUT, *(f"- {line}" for line in about))) if about else ""
        text = shortened(self.text, max(room - upper_bound(note), LEAST_TOKENS), tokens)
        return "\n\n".join(filter(None, (text.rstrip("\n") or NO_OUTPUT, note)))

    def _about(self) -> list[str]:
        lines = [*self.remarks, *self.endings, *self.taken.refused]
        if self.pictures:
            lines.append(f"Shown to the user: {', '.join(one.filename for one in self.pictures)}.")
        if self.taken.shown:
            lines.append(f"Written: {', '.join(map(link_to, self.taken.shown))}.")
        return lines

    def record(self, tx: RunTx) -> None:
        """Make the pictures' Files and keep the others."""
        for picture in self.pictures:
            keep(tx, picture.blob)
            insert_file(
                tx,
                tx.run.project_id,
                file_id=picture.file_id,
                filename=picture.filename,
                purpose="assistants_output",
                size=picture.size,
                blobs=[picture.blob],
            )
        self.taken.record(tx)

    def abandon(self, tx: Tx) -> None:
        """The call came to nothing: its bytes are swept."""
        for key in [*(one.blob for one in self.pictures), *(one.blob for one in self.taken.copied)]:
            abandon(tx, key)


def sentences_of(finished: Finished, settings: Settings) -> list[str]:
    """How the code ended, where its own output does not tell."""
    sentences: list[str] = []
    if ending := ENDINGS.get(finished.ending):
        memory = settings.memory // 1024**2
        sentences.append(ending.format(seconds=settings.timeout, memory=memory))
    if finished.state_lost:
        sentences.append(STATE_LOST)
    elif ending:
        sentences.append(STATE_KEPT)
    if finished.cut:
        sentences.append(f"{finished.cut:,} more characters of output were left out.")
    return sentences


def storable(text: str) -> str:
    """Databases cannot store NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def logs_of(text: str, sentences: Sequence[str]) -> str:
    """The output as it is, then each sentence on a line of its own."""
    if not sentences:
        return text
    return "\n".join(filter(None, (text.removesuffix("\n"), *sentences)))


def delta_of(kind: str, outputs: Iterable[JsonObject]) -> JsonObject | None:
    """What a stream adds to the call when it is done."""
    numbered = [{"index": index} | output for index, output in enumerate(outputs)]
    return {"type": kind, kind: {"outputs": numbered}} if numbered else None


def link_to(path: str) -> str:
    """A link as an answer is to have it."""
    encoded = "".join(
        quote(one) if one in ENCODED or not one.isprintable() else one for one in path
    )
    return f"[{on_one_line(path.rpartition('/')[2])}](sandbox:{DATA}/{encoded})"


def on_one_line(path: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in path)


# Shortening


def shortened(text: str, budget: int, tokens: Tokens) -> str:
    """Head and tail of a text that has more tokens than the budget; what stands between them says how much is missing."""
    if upper_bound(text) <= budget or tokens.count(text) <= budget:
        return text
    head = tokens.truncate(text, int(budget * HEAD))
    rest = text[len(head) :]
    tail = last_tokens(rest, budget - int(budget * HEAD), tokens)
    left_out = len(rest) - len(tail)
    return f"{head}\n[… {left_out:,} characters are left out here …]\n{tail}"


def last_tokens(text: str, count: int, tokens: Tokens) -> str:
    """An end of the text with at most so many tokens."""
    end = text[max(len(text) - count * BYTES_OF_TOKEN, 0) :]
    while tokens.count(end) > count:
        end = end[len(end) // 4 + 1 :]
    return end
