"""`docker-compose.yml`, brought up as docs/compose.md tells: who can reach what, all three tools, and a thread that outlives the loss of every volume."""

import asyncio
import json
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from openai.types.beta.threads import Run

from tests.compat.scenario.any_model import AnyModel
from tests.compat.scenario.code import INTERPRETER, TABLE, TOTAL, Analysis
from tests.compat.scenario.documents import ANSWER, FILE_SEARCH, QUESTION, Documents
from tests.container.deployment import (
    SERVICES,
    Deployment,
    configure,
    deployment,
    need_images,
)
from tests.support.documents import handbook_pdf
from tests.support.engine import remaining, small
from tests.support.process import environment

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]
SOCKET = "/var/run/docker.sock"
OURS = {"sandbox", "server", "worker"}
LONG = 25
"""Seconds that code takes at least, however often it is begun: so that it still runs when a slow machine stops it."""


@pytest.fixture(scope="module")
def deployed() -> Generator[Deployment]:
    """From nothing to healthy, by the page's own lines."""
    need_images()
    with deployment() as made:
        made.follow("Start", 1)
        configure(made)
        made.follow("Start", 2)
        yield made
        owner = f"{made.container('sandbox')['Config']['Hostname']} 1"
    assert not asyncio.run(remaining(small(), owner))


@pytest.fixture(scope="module")
def handbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("documents") / "handbook.pdf"
    handbook_pdf(path)
    return path


@pytest.mark.parametrize(
    "missing", ["POSTGRES_PASSWORD", "THREADLOOM_AUTH__ADMIN_KEY", "DOCKER_GID"]
)
def test_without_a_secret_compose_refuses_to_start(missing: str) -> None:
    need_images()
    given = {"POSTGRES_PASSWORD": "p", "THREADLOOM_AUTH__ADMIN_KEY": "k", "DOCKER_GID": "1"}
    with deployment() as made:
        done = subprocess.run(
            ["docker", "compose", "config"],
            cwd=made.folder,
            env=environment(**given | {missing: ""}),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode != 0
    assert f"required variable {missing} is missing a value: is not set" in done.stderr


def test_every_service_is_healthy_and_the_migration_has_ended(deployed: Deployment) -> None:
    states = {service: deployed.container(service)["State"] for service in (*SERVICES, "migrate")}
    ended = states.pop("migrate")
    assert (ended["Status"], ended["ExitCode"]) == ("exited", 0)
    assert {
        service: state["Health"]["Status"] for service, state in states.items()
    } == dict.fromkeys(SERVICES, "healthy")


def test_the_runner_builds_the_image_that_is_missing(deployed: Deployment) -> None:
    assert f"Built the image {deployed.sandbox_image} (" in deployed.compose("logs", "sandbox")


def test_the_doctor_finds_workers_well(deployed: Deployment) -> None:
    said = deployed.follow("When it does not start", 0)
    assert "ok    data directory: /data can be written" in said
    assert "ok    database: PostgreSQL" in said
    assert "without a network" in said


def test_the_doctor_looks_at_what_the_runner_needs_and_mends_it(deployed: Deployment) -> None:
    missing = ("--env", "THREADLOOM_CODE_INTERPRETER__IMAGE=missing")
    findings = deployed.asked(*missing, "sandbox", "threadloom", "doctor")["findings"]
    assert [one["check"] for one in findings] == ["settings", "runner", "sandbox engine"]
    assert findings[-1]["says"] == "there is no image missing"
    assert "`docker compose restart sandbox`" in findings[-1]["mend"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_may_do_next_to_nothing(deployed: Deployment, service: str) -> None:
    seen = deployed.container(service)
    host = seen["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert not host["Privileged"]
    users = deployed.run("docker", "top", seen["Id"], "-eo", "pid,uid").split()[3::2]
    assert set(users) == {"10001" if service in OURS else "999"}


def test_the_root_file_system_cannot_be_written(deployed: Deployment) -> None:
    write = "from pathlib import Path; Path('/opt/threadloom/x').touch()"
    done = deployed.tried("docker", "compose", "exec", "server", "python3", "-c", write)
    assert "Read-only file system" in done.stderr


def test_only_the_runner_reaches_the_engine(deployed: Deployment) -> None:
    seen = {service: deployed.container(service) for service in SERVICES}
    holders = {
        service
        for service, container in seen.items()
        if any("docker.sock" in mount["Source"] for mount in container["Mounts"])
    }
    assert holders == {"sandbox"}
    runner = seen["sandbox"]
    assert list(runner["NetworkSettings"]["Networks"]) == ["none"]
    told = " ".join(runner["Config"]["Env"])
    assert not any(secret in told for secret in ("ADMIN_KEY", "PASSWORD", "DATABASE"))


def test_one_port_is_published_and_only_on_loopback(deployed: Deployment) -> None:
    published = {
        service: deployed.container(service)["HostConfig"]["PortBindings"] for service in SERVICES
    }
    only = [{"HostIp": "127.0.0.1", "HostPort": str(deployed.port)}]
    assert {service: ports for service, ports in published.items() if ports} == {
        "server": {"8484/tcp": only}
    }
    assert list(deployed.container("database")["NetworkSettings"]["Networks"]) == [
        f"{deployed.project}_inside"
    ]
    inside = deployed.run("docker", "network", "inspect", f"{deployed.project}_inside")
    assert json.loads(inside)[0]["Internal"]


@pytest.fixture
def program(deployed: Deployment, handbook: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """What the environment of an unchanged program says."""
    monkeypatch.setenv("OPENAI_BASE_URL", deployed.address)
    monkeypatch.setenv("OPENAI_API_KEY", deployed.key)
    monkeypatch.setenv("HANDBOOK", str(handbook))
    return deployed


@pytest.mark.usefixtures("program")
def test_a_program_chats_and_has_its_functions_called() -> None:
    scenario = AnyModel()
    scenario.text_deltas_add_up_to_the_message()
    scenario.a_function_is_called_and_its_output_used()
    scenario.a_follow_up_question_runs_in_the_same_thread()


@pytest.mark.usefixtures("program")
def test_a_program_has_its_document_cited() -> None:
    scenario = Documents()
    scenario.a_store_made_from_files_is_cited()
    scenario.a_streamed_answer_is_cited()


@pytest.mark.usefixtures("program")
def test_a_program_has_code_run_and_charts_drawn() -> None:
    Analysis().an_attached_table_is_analysed_and_drawn()


def test_a_run_goes_on_when_all_containers_were_replaced(deployed: Deployment) -> None:
    with OpenAI(base_url=deployed.address, api_key=deployed.key, max_retries=0) as client:
        assistant = client.beta.assistants.create(model="any", tools=[INTERPRETER]).id
        wait = f"time.sleep(max(0, {time.time() + LONG} - time.time()))"
        question = f"Run this:\n```python\nimport time\n{wait}\nprint(17 * 23)\n```"
        run = client.beta.threads.create_and_run(
            assistant_id=assistant, thread={"messages": [{"role": "user", "content": question}]}
        )
        calls_code(client, run)
        deployed.compose("down")
        stopped = time.time()
        deployed.follow("More workers", 0)
        run = client.beta.threads.runs.poll(run.id, thread_id=run.thread_id)
        assert run.status == "completed", run
        assert run.completed_at
        assert run.completed_at > stopped
        assert "391" in answer(client, run.thread_id)
    workers = [
        one["host"]
        for one in deployed.asked("server", "threadloom", "status")["processes"]
        if one["kind"] == "worker" and not one["lost"]
    ]
    assert len(workers) == len(set(workers)) == 3


def calls_code(client: OpenAI, run: Run) -> None:
    """Wait until it does."""
    while not client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id).data:
        time.sleep(0.1)


def test_a_thread_outlives_the_loss_of_all_volumes(deployed: Deployment, handbook: Path) -> None:
    key = deployed.follow("Start", 3).strip()
    with OpenAI(base_url=deployed.address, api_key=key, max_retries=0) as client:
        store = client.vector_stores.create()
        file = client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=handbook)
        assistant = client.beta.assistants.create(
            model="any",
            tools=[FILE_SEARCH, INTERPRETER],
            tool_resources={"file_search": {"vector_store_ids": [store.id]}},
        ).id
        thread = client.beta.threads.create().id
        assert ANSWER in asked(client, thread, assistant, QUESTION)
        assert "391" in asked(client, thread, assistant, "What is 17 * 23?")
        before = [message.to_dict() for message in client.beta.threads.messages.list(thread)]

        deployed.follow("Backup", 0)
        deployed.compose("down", "--volumes", "--timeout", "20")
        assert not deployed.left()
        deployed.set("WORKERS", "2")
        deployed.follow("Backup", 1)

        assert len(deployed.compose("ps", "--quiet", "worker").split()) == 2
        after = [message.to_dict() for message in client.beta.threads.messages.list(thread)]
        assert after == before
        assert client.files.content(file.id).read() == handbook.read_bytes()
        assert ANSWER in asked(client, thread, assistant, QUESTION)
        sales: Any = {
            "file_id": client.files.create(file=("s.csv", TABLE.encode()), purpose="assistants").id,
            "tools": [INTERPRETER],
        }
        code = (
            "```python\nimport pandas\nprint(pandas.read_csv('/mnt/data/s.csv').revenue.sum())\n```"
        )
        assert TOTAL in asked(client, thread, assistant, f"Run this:\n{code}", [sales])


def asked(
    client: OpenAI, thread: str, assistant: str, question: str, attachments: Any = None
) -> str:
    """The answer."""
    messages = client.beta.threads.messages
    messages.create(thread, role="user", content=question, attachments=attachments)
    run = client.beta.threads.runs.create_and_poll(thread_id=thread, assistant_id=assistant)
    assert run.status == "completed", run
    return answer(client, thread)


def answer(client: OpenAI, thread: str) -> str:
    """The newest message."""
    newest = client.beta.threads.messages.list(thread).data[0]
    return "".join(part.text.value for part in newest.content if part.type == "text")
