"""A store's index at one generation: which segments it has, and when they are joined."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from threadloom.retrieval.index.contents import Contents
from threadloom.retrieval.index.segments import File, Part, Segment, merged

SHRINK = 10
"""A segment has less than this part of the one before it: so there are few, and none is copied often."""
DEAD = 0.2
"""What share of a segment may have been removed before it is written anew."""
LARGE = 10_000
"""A segment with more windows is prepared in the background, and kept in a file."""


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


def settle(contents: Contents, segments: Iterable[Segment]) -> Snapshot:
    """The snapshot of these segments, with the small ones joined."""
    snapshot, _ = arrange(contents, segments)
    while work := next((work for work in works(snapshot) if not is_large(work)), None):
        snapshot, _ = arrange(contents, replaced(snapshot.segments, work, merged(work)))
    return snapshot


def works(snapshot: Snapshot) -> Iterator[Sequence[Part]]:
    """Parts that should be one segment, or whose segment should be written anew; the smallest first."""
    by_model: dict[tuple[str, int], list[Part]] = {}
    for part in snapshot.parts:
        by_model.setdefault(part.segment.model, []).append(part)
    for parts in by_model.values():
        parts.sort(key=lambda part: -part.weight)
        for at in range(len(parts) - 2, -1, -1):
            if parts[at].weight <= SHRINK * sum(part.weight for part in parts[at + 1 :]):
                yield parts[at:]
        yield from ([part] for part in parts if is_worn(part) or is_unsettled(part))


def is_worn(part: Part) -> bool:
    return part.weight < (1 - DEAD) * part.segment.chunks.size


def is_unsettled(part: Part) -> bool:
    return not part.segment.settled and is_large([part])


def is_large(parts: Sequence[Part]) -> bool:
    return sum(part.segment.vectors.shape[0] for part in parts) > LARGE


def replaced(segments: Sequence[Segment], parts: Sequence[Part], segment: Segment) -> list[Segment]:
    """The segments with one in the place of those parts."""
    gone = {id(part.segment) for part in parts}
    return [segment, *(each for each in segments if id(each) not in gone)]
