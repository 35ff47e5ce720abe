"""`threadloom doctor` finds faults that were prepared, and says how to mend each."""

import asyncio
import io
import socket
import tempfile
from pathlib import Path

import pytest
from alembic import command
from openai import AsyncOpenAI
from sqlalchemy import text

from tests.db.test_migrations import config_on
from tests.faults.processes import free_port
from tests.operate.arena import Choosy, HoldingProxy, bad_providers, diagnose, run, settings_of
from tests.support.postgres import Postgres, sqlalchemy_url
from tests.support.server import Running, running_server
from threadloom import __version__, processes
from threadloom.commands.doctor.codes import check_sandbox
from threadloom.config import CodeInterpreter, Runner
from threadloom.db.engine import connect, create_engine
from threadloom.db.rows import ProcessKind
from threadloom.processes import Process
from threadloom.testing import HashEmbedder, LineParser, ScriptedModel, ScriptedModels
from threadloom.testing.upstream import Upstream

HASHED = HashEmbedder(16)
FAKE_CLOCK = """
    CREATE SCHEMA elsewhere;
    CREATE FUNCTION elsewhere.clock_timestamp() RETURNS timestamptz LANGUAGE sql
        AS $$ SELECT pg_catalog.clock_timestamp() + interval '1 hour' $$
"""


async def test_a_healthy_server_is_all_green(working: Running) -> None:
    found = await diagnose(settings_of(working), "--url", working.base_url)
    assert set(found.colours.values()) == {"green"}, found.findings
    assert found.code == 0
    assert {"settings", "data directory", "database", "schema", "keys", "workers"} < set(
        found.findings
    )
    assert {"storage", "embeddings", "sandbox", "proxy"} < set(found.findings)
    assert "model embedded/threadloom-embedded" in found.findings


async def test_a_code_interpreter_that_is_turned_off_asks_no_runner() -> None:
    runner = Runner(url="unix:///nowhere/runner.sock")
    (found,) = await check_sandbox(CodeInterpreter(runtime="none", runner=runner))
    assert (found.colour, "turned off" in found.says) == ("green", True)


async def test_where_only_the_api_is_served_no_sandbox_is_looked_for(server: Running) -> None:
    runner = {
        "THREADLOOM_CODE_INTERPRETER__RUNTIME": "docker",
        "THREADLOOM_CODE_INTERPRETER__RUNNER__URL": "unix:///nowhere/runner.sock",
    }
    await beat(server, "api")
    told = (await diagnose(settings_of(server) | runner)).findings["sandbox"]
    assert (told["colour"], "code is run where workers are" in told["says"]) == ("green", True)
    await beat(server, "worker")
    assert "does not answer" in (await diagnose(settings_of(server) | runner)).red("sandbox")[0]


async def beat(server: Running, kind: ProcessKind) -> None:
    """As a process of this host does."""
    now = server.database.clock.now()
    process = Process(f"proc_{kind}", kind, socket.gethostname(), 1, __version__, now)
    await server.database.write(processes.beat, process)


async def test_where_only_the_runner_is_nothing_else_is_looked_at(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="tl-", dir="/tmp") as folder:
        path = f"{folder}/runner.sock"
        variables = {
            "THREADLOOM_DATA_DIR": str(tmp_path / "none"),
            "THREADLOOM_CODE_INTERPRETER__RUNTIME": "docker",
            "THREADLOOM_CODE_INTERPRETER__RUNNER__URL": f"unix://{path}",
            "THREADLOOM_CODE_INTERPRETER__DOCKER_HOST": "unix:///nowhere/docker.sock",
        }
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            found = await diagnose(variables)
    assert set(found.findings) == {"settings", "runner", "sandbox engine"}
    assert found.colours["runner"] == "green"
    found.red("sandbox engine")


async def test_people_see_a_line_for_each_check_and_one_that_mends(tmp_path: Path) -> None:
    done = await run({"THREADLOOM_DATA_DIR": str(tmp_path / "new")}, "doctor")
    assert "ok    model embedded/threadloom-embedded: answers" in done.output
    assert "WARN  database: There is no database at" in done.output
    assert "      The first `threadloom serve` makes it." in done.output
    assert done.code == 0
    assert not (tmp_path / "new").exists(), "a look made something"


async def test_wrong_settings_are_found(tmp_path: Path) -> None:
    found = await diagnose({"THREADLOOM_RUNS__LEESE": "1s", "THREADLOOM_DATA_DIR": str(tmp_path)})
    says, mend = found.red("settings")
    assert says == "Unknown setting THREADLOOM_RUNS__LEESE. Did you mean THREADLOOM_RUNS__LEASE?"
    assert "threadloom config example" in mend


async def test_settings_that_do_not_fit_together_are_found(tmp_path: Path) -> None:
    embeddings = {"THREADLOOM_EMBEDDINGS__BASE_URL": "http://127.0.0.1:1/v1"}
    found = await diagnose({**embeddings, "THREADLOOM_DATA_DIR": str(tmp_path)})
    assert "name the model" in found.red("settings")[0]


async def test_providers_that_refuse_the_key_do_not_stream_or_call_no_tools_are_found(
    tmp_path: Path,
) -> None:
    async with bad_providers(tmp_path) as config:
        variables = {"THREADLOOM_DATA_DIR": str(tmp_path)}
        found = await diagnose(variables, "--config", str(config))
    says, mend = found.red("model refusing/m-refusing")
    assert "does not accept this server's key" in says
    assert "api_key of the provider refusing" in says
    assert "the key" in mend
    says, mend = found.red("model silent/m-silent")
    assert "does not stream" in says
    assert "`stream: true`" in mend
    says, mend = found.red("model plain/m-plain")
    assert "calls no function" in says
    assert "Use a model that calls functions" in mend


async def test_dead_services_and_a_directory_that_nobody_may_write_are_found() -> None:
    port = free_port()
    variables = {
        "THREADLOOM_DATA_DIR": "/sys",  # not even root may write there
        "THREADLOOM_DATABASE__URL": f"postgresql://127.0.0.1:{port}/none?connect_timeout=1",
        "THREADLOOM_STORAGE__URL": "s3://bucket/prefix",
        "THREADLOOM_STORAGE__S3__ENDPOINT": f"http://127.0.0.1:{port}",
        "THREADLOOM_STORAGE__S3__ACCESS_KEY_ID": "the-key-id",
        "THREADLOOM_STORAGE__S3__SECRET_ACCESS_KEY": "the-secret",
        "THREADLOOM_UPSTREAM__BASE_URL": f"http://127.0.0.1:{port}/v1",
        "THREADLOOM_CODE_INTERPRETER__RUNTIME": "docker",
        "THREADLOOM_CODE_INTERPRETER__DOCKER_HOST": "unix:///run/nobody.sock",
        "THREADLOOM_EMBEDDINGS__BASE_URL": f"http://127.0.0.1:{port}/v1",
        "THREADLOOM_EMBEDDINGS__MODEL": "none",
    }
    found = await diagnose(variables)
    says, mend = found.red("data directory")
    assert "/sys cannot be written" in says
    assert "chown" in mend
    says, mend = found.red("database")
    assert "Connection refused" in says
    assert "THREADLOOM_DATABASE__URL" in mend
    says, mend = found.red("storage")
    assert "s3://bucket/prefix does not work" in says
    assert "THREADLOOM_STORAGE__URL" in mend
    says, mend = found.red("model upstream/gpt-4o")
    assert "ConnectError" in says
    assert "THREADLOOM_UPSTREAM__BASE_URL" in mend
    says, mend = found.red("sandbox engine")
    assert "does not answer at unix:///run/nobody.sock" in says
    assert "Start Docker" in mend
    assert "THREADLOOM_EMBEDDINGS__BASE_URL" in found.red("embeddings")[1]
    assert "the-secret" not in str(found.findings)
    assert "the-key-id" not in str(found.findings)


@pytest.mark.parametrize(
    ("revision", "says", "mends"),
    [
        ("0003", "0003 is older than this program's", "threadloom db upgrade"),
        ("9999", "9999 is newer than this program", "Upgrade Threadloom"),
    ],
)
async def test_another_schema_is_found(
    empty_url: str, tmp_path: Path, revision: str, says: str, mends: str
) -> None:
    await asyncio.to_thread(stand_at, empty_url, revision)
    found = await diagnose(
        {"THREADLOOM_DATABASE__URL": empty_url, "THREADLOOM_DATA_DIR": str(tmp_path)}
    )
    said, mend = found.red("schema")
    assert says in said
    assert mends in mend


def stand_at(url: str, revision: str) -> None:
    """`9999` is one that this program does not know."""
    engine = create_engine(url)
    with connect(engine, write=True) as connection, connection.begin():
        command.upgrade(config_on(connection), "0003")
        connection.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": revision})
    engine.dispose()


async def test_that_nobody_works_is_found(server: Running) -> None:
    says, mend = (await diagnose(settings_of(server))).red("workers")
    assert says == "none is alive; 0 runs and 0 files wait"
    assert "threadloom worker" in mend


async def test_vectors_of_another_model_or_length_are_found(sqlite_url: str) -> None:
    models = ScriptedModels(ScriptedModel())
    async with (
        Upstream() as other,
        running_server(sqlite_url, models, embedder=HASHED, parser=LineParser()) as server,
    ):
        await attach(server)
        variables = settings_of(server)
        says, mend = (await diagnose(variables)).red("embeddings")
        assert "1 files were embedded by another model" in says
        assert "threadloom reindex" in mend
        remote = {
            "THREADLOOM_EMBEDDINGS__BASE_URL": other.base_url,
            "THREADLOOM_EMBEDDINGS__MODEL": HASHED.model,
        }
        says, mend = (await diagnose(variables | remote)).red("embeddings")
        assert "but 1 files have 16" in says
        assert "THREADLOOM_EMBEDDINGS__DIMENSIONS" in mend


async def attach(server: Running) -> None:
    client: AsyncOpenAI
    async with server.openai() as client:
        store = await client.vector_stores.create()
        content = ("a.txt", io.BytesIO(b"Bees dance."))
        await client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=content)


async def test_a_model_that_assistants_name_and_nobody_has_is_found(
    small: Running,
) -> None:
    async with small.openai() as client:
        await client.beta.assistants.create(model="gpt-4o")
    async with Choosy(models=("other",)) as upstream:
        upstream_at = {"THREADLOOM_UPSTREAM__BASE_URL": upstream.base_url}
        says, mend = (await diagnose({**settings_of(small), **upstream_at})).red("model gpt-4o")
    assert says.startswith("assistants name it, and upstream does not list gpt-4o: ")
    assert "status 404" in says
    assert 'THREADLOOM_ALIASES={"gpt-4o": "<a model>"}' in mend


async def test_an_alias_that_leads_to_no_model_is_found(small: Running, tmp_path: Path) -> None:
    async with small.openai() as client:
        await client.beta.assistants.create(model="fast")
    async with Choosy(models=("other",)) as upstream:
        variables = {
            **settings_of(small),
            "THREADLOOM_UPSTREAM__BASE_URL": upstream.base_url,
            "THREADLOOM_ALIASES": '{"fast": "gone", "spare": "lost", "good": "other"}',
        }
        found = await diagnose(variables)
        assert "does not list gone" in found.red("model fast")[0]
        assert "it is an alias, and upstream does not list lost" in found.red("model spare")[0]
        assert found.colours["model upstream/other"] == "green"
        assert "model good" not in found.findings
        config = tmp_path / "named.yaml"
        named = f"{{name: named, base_url: '{upstream.base_url}', models: {{other: {{}}}}}}"
        config.write_text(f"providers: [{named}]")
        del variables["THREADLOOM_UPSTREAM__BASE_URL"]
        says, _ = (await diagnose(variables, "--config", str(config))).red("model fast")
    assert says == "assistants name it, and no provider has it"


async def test_a_name_that_a_provider_takes_without_listing_it_is_fine(small: Running) -> None:
    async with small.openai() as client:
        await client.beta.assistants.create(model="llama3")
    async with Choosy(models=("llama3:latest",), unlisted=("llama3",)) as upstream:
        upstream_at = {"THREADLOOM_UPSTREAM__BASE_URL": upstream.base_url}
        found = await diagnose({**settings_of(small), **upstream_at})
    assert found.colours["model llama3"] == "green", found.findings
    assert found.colours["model upstream/llama3:latest"] == "green"


async def test_a_proxy_that_holds_events_back_is_found(small: Running) -> None:
    async with HoldingProxy(small.port).listening() as url:
        says, mend = (await diagnose(settings_of(small), "--url", url)).red("proxy")
    assert "holds events back" in says
    assert "proxy_buffering off" in mend


async def test_a_public_address_that_does_not_answer_or_refuses_the_key_is_found(
    small: Running,
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    says, mend = (await diagnose(settings_of(small), "--url", nowhere)).red("proxy")
    assert f"{nowhere} does not answer" in says
    assert "certificate" in mend
    wrong = {**settings_of(small), "OPENAI_API_KEY": "sk-wrong"}
    says, mend = (await diagnose(wrong, "--url", small.base_url)).red("proxy")
    assert "refuses the key (status 401)" in says
    assert "OPENAI_API_KEY" in mend


async def test_a_clock_that_is_an_hour_off_is_found(postgres: Postgres, tmp_path: Path) -> None:
    with postgres.database() as plain_url:
        url = sqlalchemy_url(plain_url)
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text(FAKE_CLOCK))
        joint = "&" if "?" in url else "?"
        seen = f"{url}{joint}options=-csearch_path%3Delsewhere,public,pg_catalog"
        found = await diagnose(
            {"THREADLOOM_DATABASE__URL": seen, "THREADLOOM_DATA_DIR": str(tmp_path)}
        )
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA elsewhere CASCADE"))
        engine.dispose()
    says, mend = found.red("clock")
    assert "3600" in says
    assert "timedatectl" in mend
