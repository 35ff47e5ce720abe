"""IPython, without a terminal: what a cell prints, returns and shows goes to where the kernel sends it."""

# ruff: noqa: ARG002 - the methods' arguments are IPython's, which declares few of their types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import sys
import warnings
from base64 import b64decode
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from figures import Figures
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
from wire import SIGNATURES

CONFIG = Config(
    {
        "HistoryManager": {"enabled": False},
        "InteractiveShell": {"colors": "nocolor", "xmode": "Context", "history_load_length": 0},
        # The rest of what objects can be shown as would be made and thrown away.
        "DisplayFormatter": {"active_types": ["text/plain", *SIGNATURES]},
    }
)


class Results(DisplayHook):
    """Shows the value of a cell's last expression."""

    def write_output_prompt(self) -> None: ...

    def write_format_data(
        self, format_dict: Mapping[str, Any], md_dict: Mapping[str, Any] | None = None
    ) -> None:
        shell().show(format_dict)

    def log_output(self, format_dict: Mapping[str, Any]) -> None:
        """Not kept a second time."""

    def finish_displayhook(self) -> None:
        self._is_active = False


class Displays(DisplayPublisher):
    """Shows what `display` is given."""

    def publish(self, data: Mapping[str, Any], *_: object, **__: object) -> None:
        shell().show(data)

    def clear_output(self, wait: bool = False) -> None: ...


class Shell(InteractiveShell):
    """`show_picture` and `write` are set by the kernel."""

    displayhook_class = Results
    display_pub_class = Displays

    show_picture: Callable[[str, bytes], None]
    write: Callable[[str], None]
    tracebacks: list[str]
    """Of this cell. They are not printed, so that they are seen when too much was."""
    figures: Figures

    def show(self, data: Mapping[str, Any]) -> None:
        """An object in the richest form that a host takes."""
        for media_type in SIGNATURES:
            if picture := data.get(media_type):
                content = picture if isinstance(picture, bytes) else b64decode(picture)
                return self.show_picture(media_type, content)
        if text := data.get("text/plain"):
            self.write(f"{text}\n")
        return None

    def run(self, code: str) -> bool:
        """Whether it raised nothing. Raises KeyboardInterrupt when it comes just before or after the code."""
        result = self.run_cell(code, store_history=True)
        self.figures.show_open()
        return result.success or is_success(result.error_in_exec)

    def system(self, cmd: str) -> None:
        """`!command`, on our own streams; IPython's would open a terminal."""
        sys.stdout.flush()
        self.system_raw(cmd)

    def ask_exit(self) -> None:
        """`exit()` ends the cell."""
        raise SystemExit

    def enable_gui(self, gui: str | None = None) -> None:
        """There is none."""

    def _showtraceback(self, etype: object, evalue: object, stb: list[str]) -> None:
        if not is_success(evalue):
            self.tracebacks.append(self.InteractiveTB.stb2text(stb) + "\n")

    @contextmanager
    def _tee(self, channel: str) -> Generator[None]:
        """IPython would keep all that is printed in memory."""
        yield


def is_success(raised: object) -> bool:
    """Programs end so, too."""
    return isinstance(raised, SystemExit) and raised.code in (None, 0)


def shell() -> Shell:
    """The only one."""
    return Shell.instance()


def make_shell(preload: list[str]) -> Shell:
    """With modules imported that cells are likely to use."""
    made = Shell.instance(config=CONFIG)
    made.tracebacks = []
    made.figures = Figures(made, made.show)
    warnings.filterwarnings("ignore", message="To exit: use")
    for name in preload:
        try:
            import_module(name)
        except ImportError as error:
            sys.stderr.write(f"{name} is not preloaded: {error}\n")
    if "matplotlib.pyplot" in sys.modules:
        made.figures.watch()
    warm_up(made)
    return made


def ignore(*_: object) -> None: ...


def warm_up(made: Shell) -> None:
    """Have what is imported late imported: for a value, a traceback, a figure."""
    made.show_picture, made.write = ignore, ignore
    made.run_cell("1 / 0", silent=True)
    made.displayhook.compute_format_data(1)
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.plot([1])
        made.figures.show_open()
