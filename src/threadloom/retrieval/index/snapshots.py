"""A store's index at one generation: which segments it has, and when they are joined."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from threadloom.retrieval.index.contents import Contents
from threadloom.retrieval.index.segments import File, Part, Segment, merged


@dataclass(frozen=True)
class Snapshot:
    """What a search sees: it never changes, so that many may read it at once."""

    contents: Contents
    parts: tuple[Part, ...]

    @property
    def generation(self) -> int:
        return self.contents.generation

    @property
    def segments(self) -> list[Segment]:
        return [part.segment for part in self.parts]

    @cached_property
    def bytes(self) -> int:
        return 4096 + sum(segment.bytes for segment in self.segments)


@dataclass(frozen=True)
class Policy:
    """Sizes, as they were measured (ADR 0009). Tests set them lower.

    A segment has less than a tenth (`shrink`) of the one before it: so there are few, and none is copied often. It is
    written anew when a share of `dead` of it was removed. With more windows than `large` that happens in the background,
    and it is kept in a file; with more than `scan` windows it gets a packed scan.
    """

    shrink: int = 10
    dead: float = 0.2
    large: int = 10_000
    scan: int = 50_000

    def works(self, snapshot: Snapshot) -> Iterator[Sequence[Part]]:
        """Parts that should be one segment, or whose segment should be written anew; the smallest first."""
        by_model: dict[tuple[str, int], list[Part]] = {}
        for part in snapshot.parts:
            by_model.setdefault(part.segment.model, []).append(part)
        for parts in by_model.values():
            parts.sort(key=lambda part: -part.weight)
            for at in range(len(parts) - 2, -1, -1):
                if parts[at].weight <= self.shrink * sum(part.weight for part in parts[at + 1 :]):
                    yield parts[at:]
            yield from ([part] for part in parts if self._is_worn(part) or self._is_raw(part))

    def is_large(self, parts: Sequence[Part]) -> bool:
        return sum(part.segment.size for part in parts) > self.large

    def _is_worn(self, part: Part) -> bool:
        return part.weight < (1 - self.dead) * part.segment.chunks.size

    def _is_raw(self, part: Part) -> bool:
        return not part.segment.settled and self.is_large([part])


MEASURED = Policy()


def arrange(contents: Contents, segments: Iterable[Segment]) -> tuple[Snapshot, list[File]]:
    """The parts of segments that count, and the files that none of them has. A file counts once."""
    missing = dict.fromkeys(contents.files)
    parts: list[Part] = []
    for segment in segments:
        alive = np.fromiter((file in missing for file in segment.files), np.bool_)
        if alive.any():
            parts.append(Part(segment, None if alive.all() else alive))
        for file in segment.files:
            missing.pop(file, None)
    return Snapshot(contents, tuple(parts)), list(missing)


def settle(contents: Contents, segments: Iterable[Segment], policy: Policy) -> Snapshot:
    """The snapshot of these segments, with the small ones joined."""
    snapshot, _ = arrange(contents, segments)
    while work := next((w for w in policy.works(snapshot) if not policy.is_large(w)), None):
        snapshot, _ = arrange(contents, replaced(snapshot.segments, work, merged(work)))
    return snapshot


def replaced(segments: Sequence[Segment], parts: Sequence[Part], segment: Segment) -> list[Segment]:
    """The segments with one in the place of those parts."""
    gone = {id(part.segment) for part in parts}
    return [segment, *(each for each in segments if id(each) not in gone)]
