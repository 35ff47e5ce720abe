"""Stand-ins for the model, a built-in tool, the sandbox, the search, the embedder, the reranker, the parser, the clock and the ids: what our tests use, for the tests of our users too."""

from threadloom.testing.clock import FrozenClock
from threadloom.testing.embedder import HashEmbedder
from threadloom.testing.ids import SequentialIds
from threadloom.testing.model import ScriptedModel, ScriptedModels, ScriptExhausted
from threadloom.testing.parser import LineParser
from threadloom.testing.reranker import WordReranker
from threadloom.testing.sandbox import Cell, FakeSandbox, Writes
from threadloom.testing.search import ScriptedSearch, passage
from threadloom.testing.tool import EchoTool

__all__ = [
    "Cell",
    "EchoTool",
    "FakeSandbox",
    "FrozenClock",
    "HashEmbedder",
    "LineParser",
    "ScriptExhausted",
    "ScriptedModel",
    "ScriptedModels",
    "ScriptedSearch",
    "SequentialIds",
    "WordReranker",
    "Writes",
    "passage",
]
