"""Stand-ins for the model, the clock and the ids: what our tests use, for the tests of our users too."""

from threadloom.testing.clock import FrozenClock
from threadloom.testing.ids import SequentialIds
from threadloom.testing.model import ScriptedModel, ScriptedModels, ScriptExhausted

__all__ = ["FrozenClock", "ScriptExhausted", "ScriptedModel", "ScriptedModels", "SequentialIds"]
