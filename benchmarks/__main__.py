"""`python -m benchmarks [--quick] [--json FILE] [--database postgresql] [--only NAME ...]`."""

import argparse
import asyncio
import os
import platform
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import orjson
import uvloop

from benchmarks import measures
from benchmarks.figures import Figure, table
from benchmarks.measures import QUICK, Sizes
from benchmarks.processes import Database, Serving, fresh_server, minimal_app, upstream
from benchmarks.targets import Pair, pair

Measure = Callable[[Pair, Serving, Sizes], AsyncIterator[Figure]]
MEASURES: dict[str, Measure] = {
    "first-token": lambda pair, _, sizes: measures.first_token(pair, sizes),
    "unpaced": lambda pair, _, sizes: measures.unpaced(pair, sizes),
    "paced": lambda pair, _, sizes: measures.paced(pair, sizes),
    "runs": lambda pair, _, sizes: measures.runs(pair, sizes),
    "requests": measures.requests,
    "threads": lambda pair, _, sizes: measures.long_threads(pair, sizes),
    "after-load": lambda pair, _, _sizes: measures.after_load(pair),
    "rest": lambda pair, _, sizes: measures.rest(pair.direct.serving, sizes),
}


async def measured(database: Database, names: list[str], sizes: Sizes) -> list[Figure]:
    figures: list[Figure] = []
    with (
        upstream() as bare,
        minimal_app() as minimal,
        fresh_server(bare.port, database) as serving,
    ):
        both = await pair(bare, serving)
        await warm_up(both)
        for name in names:
            async for figure in MEASURES[name](both, minimal, sizes):
                figures.append(figure)
                print(table([figure]), flush=True)
    return figures


async def warm_up(both: Pair) -> None:
    """The first requests pay for imports and statements that no later one pays for."""
    for target in (both.direct, both.served):
        await measures.stream(target, target.streaming(20), clients=8, each=4)


def machine() -> dict[str, Any]:
    return {
        "processors": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it work at all?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--only", nargs="+", choices=tuple(MEASURES), default=list(MEASURES))
    options = parser.parse_args()
    report: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),  # noqa: TID251 - a date for people
        "machine": machine(),
        "database": options.database,
        "quick": options.quick,
    }
    database = cast(Database, options.database)  # argparse has checked it
    sizes = QUICK if options.quick else Sizes()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(measured(database, options.only, sizes))
    report["figures"] = [figure.as_json() for figure in figures]
    print("\n" + table(figures))
    if options.json:
        options.json.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
