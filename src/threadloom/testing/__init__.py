"""Stand-ins for the model, a built-in tool, the search, the embedder, the clock and the ids: what our tests use, for the tests of our users too."""

from threadloom.testing.clock import FrozenClock
from threadloom.testing.embedder import HashEmbedder
from threadloom.testing.ids import SequentialIds
from threadloom.testing.model import ScriptedModel, ScriptedModels, ScriptExhausted
from threadloom.testing.search import ScriptedHit, ScriptedSearch
from threadloom.testing.tool import EchoTool

__all__ = [
    "EchoTool",
    "FrozenClock",
    "HashEmbedder",
    "ScriptExhausted",
    "ScriptedHit",
    "ScriptedModel",
    "ScriptedModels",
    "ScriptedSearch",
    "SequentialIds",
]
