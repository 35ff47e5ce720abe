"""The content parts of a message while it is written."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from threadloom.runs.citations import Piece
from threadloom.types.messages import (
    Content,
    ImageFile,
    ImageFileContent,
    RefusalContent,
    TextContent,
    TextValue,
)
from threadloom.types.shared import JsonObject

PartKind = Literal["text", "refusal", "image_file"]


@dataclass
class PartDraft:
    """A content part while it is written; `length` counts characters. The one piece of a picture is its File's id."""

    kind: PartKind
    pieces: list[str] = field(default_factory=list[str])
    annotations: list[JsonObject] = field(default_factory=list[JsonObject])
    length: int = 0

    def add(self, piece: Piece) -> None:
        if piece.source:
            self.annotations.append(piece.source.annotation(self.length))
        self.pieces.append(piece.text)
        self.length += len(piece.text)

    def delta(self, piece: Piece) -> JsonObject:
        """The piece as it is sent before it is added. Only the first of a text has a list of annotations without need."""
        if self.kind != "text":
            return {self.kind: {"file_id": piece.text} if self.kind == "image_file" else piece.text}
        text: JsonObject = {"value": piece.text}
        if piece.source:
            annotation = piece.source.annotation(self.length)
            text["annotations"] = [streamed_annotation(annotation, len(self.annotations))]
        elif not self.pieces:
            text["annotations"] = []
        return {"text": text}

    def add_delta(self, part: JsonObject) -> None:
        """A piece as it was sent."""
        sent = part[self.kind]
        match self.kind:
            case "text":
                self.pieces.append(sent["value"])
                self.annotations += map(stored_annotation, sent.get("annotations", ()))
            case "image_file":
                self.pieces.append(sent["file_id"])
            case _:
                self.pieces.append(sent)

    def content(self) -> Content:
        text = "".join(self.pieces)
        match self.kind:
            case "text":
                value = TextValue(value=text, annotations=list(self.annotations))
                return TextContent(type="text", text=value)
            case "image_file":
                return ImageFileContent(type="image_file", image_file=ImageFile(file_id=text))
            case _:
                return RefusalContent(type="refusal", refusal=text)


def streamed_annotation(annotation: JsonObject, index: int) -> JsonObject:
    """An annotation as deltas have it: numbered, and a citation with the empty quote that the hosted service sent."""
    sent: JsonObject = {"index": index} | annotation
    if "file_citation" in sent:
        sent["file_citation"] = sent["file_citation"] | {"quote": ""}
    return sent


def stored_annotation(sent: JsonObject) -> JsonObject:
    """An annotation of a delta as its message keeps it."""
    kept = {name: value for name, value in sent.items() if name != "index"}
    if "file_citation" in kept:
        cited = kept["file_citation"].items()
        kept["file_citation"] = {name: value for name, value in cited if name != "quote"}
    return kept


def content_of(parts: Iterable[PartDraft]) -> list[Content]:
    """Parts in the stored form."""
    return [part.content() for part in parts]
