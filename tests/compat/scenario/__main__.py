"""One program for every openai-python release; it prints what passed, what the release lacks and what failed.

OPENAI_BASE_URL=http://127.0.0.1:8484/v1 OPENAI_API_KEY=… python -m tests.compat.scenario scripted|embedded|code|analysis
"""

import json
import sys
import traceback

import openai

from tests.compat.scenario.any_model import AnyModel
from tests.compat.scenario.base import Lacking
from tests.compat.scenario.clients import Clients
from tests.compat.scenario.code import Analysis, Code
from tests.compat.scenario.documents import Documents
from tests.compat.scenario.resources import Resources
from tests.compat.scenario.runs import Runs
from tests.compat.scenario.streams import Streams

CHECKS = {
    "scripted": (AnyModel, Resources, Runs, Streams, Clients),
    "embedded": (AnyModel, Documents),
    "code": (Code,),
    "analysis": (Analysis,),
}


def main() -> None:
    passed: list[str] = []
    lacking: list[str] = []
    failed: dict[str, str] = {}
    for kind in CHECKS[sys.argv[1]]:
        scenario = kind()
        for name in vars(kind):
            if name.startswith("_"):
                continue
            try:
                getattr(scenario, name)()
                passed.append(name)
            except Lacking:
                lacking.append(name)
            except Exception:  # noqa: BLE001 - what went wrong is part of the answer
                failed[name] = traceback.format_exc(limit=-3)
    report = {"sdk": openai.__version__, "passed": passed, "lacking": lacking, "failed": failed}
    print(json.dumps(report))  # noqa: T201


if __name__ == "__main__":
    main()
