"""Figures that a cell leaves open are shown at its end, as in a notebook, but not those that were already shown as they are."""

# IPython declares few of its types.
# pyright: reportUnknownMemberType=false

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

PNG = "image/png"


class Figures:
    """Of pyplot. Where nobody preloads it there is no `watch`, and IPython shows figures once a cell imports it."""

    def __init__(self, shell: InteractiveShell, show: Callable[[Mapping[str, Any]], None]) -> None:
        self._shell, self._show = shell, show
        self._formats: Any = shell.display_formatter
        self._shown: dict[object, object] = {}

    def watch(self) -> None:
        """Take over from IPython, which shows all open figures again."""
        self._shell.enable_matplotlib("inline")
        flush = import_module("matplotlib_inline.backend_inline").flush_figures
        self._shell.events.unregister("post_execute", flush)
        formatter = self._formats.formatters[PNG]
        kind = import_module("matplotlib.figure").Figure
        draw = formatter.lookup_by_type(kind)

        def remember(figure: object) -> object:
            picture = self._shown[figure] = draw(figure)
            return picture

        formatter.for_type(kind, remember)

    def show_open(self) -> None:
        """Also those of a backend that shows nothing by itself: a cell may have chosen Agg."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None and (numbers := pyplot.get_fignums()):
            for number in numbers:
                self._show_news(pyplot.figure(number))
            pyplot.close("all")
        self._shown.clear()

    def _show_news(self, figure: object) -> None:
        before = self._shown.get(figure)
        formats, _ = self._formats.format(figure)
        if before is None or formats.get(PNG) != before:
            self._show(formats)
