"""What a doctor is called for: commands run beside servers, bad providers, and a proxy that holds answers back."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from tests.support.server import Running
from threadloom.cli import cli
from threadloom.testing.upstream import Answer, Script, Upstream, error_answer, json_answer

COMPLETION = {
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "one, two, three, four, five, six, seven"},
            "finish_reason": "stop",
        }
    ],
}
WITHOUT = {"OPENAI_API_KEY": "", "THREADLOOM_CODE_INTERPRETER__RUNTIME": "none", "COLUMNS": "200"}


@dataclass(frozen=True)
class Done:
    """A command that ended; `exception` is what `main` would make a sentence of."""

    code: int
    output: str
    exception: BaseException | None = None


async def run(variables: Mapping[str, str], *arguments: str) -> Done:
    environment = {**WITHOUT, **variables}
    done = await asyncio.to_thread(CliRunner().invoke, cli, list(arguments), env=environment)
    exception = None if isinstance(done.exception, SystemExit) else done.exception
    return Done(done.exit_code, done.stdout, exception)


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor says, by check."""

    code: int
    findings: Mapping[str, Mapping[str, Any]]

    @property
    def colours(self) -> Mapping[str, str]:
        return {check: finding["colour"] for check, finding in self.findings.items()}

    def red(self, check: str) -> tuple[str, str]:
        """What is wrong and how to mend it; fails unless both are told and the doctor exits with 1."""
        finding = self.findings[check]
        assert finding["colour"] == "red", self.findings
        assert self.code == 1
        return finding["says"], finding["mend"]


def settings_of(server: Running) -> dict[str, str]:
    """What a command needs to see the same data, with the server's key."""
    return {
        "THREADLOOM_DATABASE__URL": server.database.engine.url.render_as_string(False),
        "THREADLOOM_DATA_DIR": str(server.context.settings.data_dir),
        "OPENAI_API_KEY": server.key,
    }


async def diagnose(variables: Mapping[str, str], *arguments: str) -> Diagnosis:
    done = await run(variables, "doctor", "--json", *arguments)
    assert done.exception is None, done.exception
    findings = json.loads(done.output)["findings"]
    assert all(bool(one["mend"]) == (one["colour"] != "green") for one in findings), findings
    return Diagnosis(done.code, {one["check"]: one for one in findings})


@asynccontextmanager
async def bad_providers(folder: Path) -> AsyncGenerator[Path]:
    """A `config.yaml` with a provider that refuses the key, one that does not stream and one that calls no tools."""
    async with AsyncExitStack() as stack:
        upstreams = {
            name: await stack.enter_async_context(Upstream())
            for name in ("refusing", "silent", "plain")
        }
        upstreams["refusing"].answers(error_answer(401, {"message": "Incorrect API key."}))
        upstreams["silent"].answers(json_answer(COMPLETION))
        providers: Sequence[object] = [
            {"name": name, "base_url": one.base_url, "models": {f"m-{name}": {}}}
            for name, one in upstreams.items()
        ]
        config = folder / "providers.yaml"
        config.write_text(yaml.safe_dump({"providers": providers}))
        yield config


@dataclass
class Choosy(Upstream):
    """Knows its own models, and calls the function that it is offered."""

    unlisted: tuple[str, ...] = ()

    def _complete(self, headers: dict[str, str], request: dict[str, Any]) -> Answer:
        if request["model"] not in (*self.models, *self.unlisted):
            return error_answer(404, {"message": "No such model.", "code": "model_not_found"})
        calls = ('get_weather {"city":"Paris"}',) if request.get("tools") else ()
        return self._scripted(Script({}, calls), request)


class HoldingProxy:
    """Passes an answer on when all of it is there, as nginx does with `proxy_buffering on`."""

    def __init__(self, target: int) -> None:
        self._target = target

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        inner, outer = await asyncio.open_connection("127.0.0.1", self._target)
        outer.write(head.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
        writer.write(await inner.read())
        await writer.drain()
        for one in (outer, writer):
            one.close()
