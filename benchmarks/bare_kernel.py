"""A Jupyter kernel with nothing around it, for comparison: run by a Python that has ipykernel and jupyter_client.

    python bare_kernel.py CALLS

Prints JSON: the milliseconds, or MiB, of each thing that `sandbox.py` measures, too.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

PLOT = """
import pandas as pd
import matplotlib.pyplot as plt
pd.Series([1, 3, 2]).plot()
plt.show()
"""
MS = 1e3


def milliseconds(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return (time.perf_counter() - before) * MS


def run(client: Any, code: str, wanted: str) -> None:
    """Until the kernel is idle; an output must have had this media type."""
    kinds: set[str] = set()

    def note(message: dict[str, Any]) -> None:
        kinds.update(message["content"].get("data", ()))

    client.execute_interactive(code, timeout=60, output_hook=note)
    assert wanted in kinds, kinds


def sum_of_two(client: Any) -> None:
    run(client, "1+1", "text/plain")


def back(manager: Any, client: Any) -> None:
    """From its death, as far as a client hears of it, to the next result."""
    manager.provisioner.process.kill()
    manager.restart_kernel(now=True)
    client.wait_for_ready(timeout=60)
    sum_of_two(client)


def memory(process: int) -> float:
    """MiB; pages that processes share are shared out."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line[:4] == "Pss:") / 1024


def measured(calls: int) -> dict[str, list[float]]:
    before = time.perf_counter()
    manager, client = started()
    sum_of_two(client)
    first = (time.perf_counter() - before) * MS
    process = manager.provisioner.pid
    try:
        return {
            "cold": [first],
            "later": [milliseconds(lambda: sum_of_two(client)) for _ in range(calls)],
            "idle": [memory(process)],
            "plot": [milliseconds(lambda: run(client, PLOT, "image/png"))],
            "after plot": [memory(process)],
            "back": [milliseconds(lambda: back(manager, client))],
        }
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def started() -> tuple[Any, Any]:
    """Only this script's own environment has it."""
    return import_module("jupyter_client.manager").start_new_kernel()


if __name__ == "__main__":
    json.dump(measured(int(sys.argv[1])), sys.stdout)
