"""Fault points: they fail where, when and how they are told, and nowhere else."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support.process import COMMAND, environment
from threadloom import faults

PASS_THREE_TIMES = """
import sys
from threadloom import faults
faults.arm(sys.argv[1])
for number in range(3):
    print(number, flush=True)
    faults.point("here")
"""


@pytest.fixture(autouse=True)
def disarmed() -> Generator[None]:
    yield
    faults.Armed.pass_by = None


def test_nothing_fails_unless_it_is_asked_for() -> None:
    faults.point("here")


def test_the_named_passage_fails_and_no_other() -> None:
    faults.arm("here:2:raise")
    faults.point("here")
    faults.point("there")
    with pytest.raises(OSError, match="asked for at here"):
        faults.point("here")
    faults.point("here")


def test_a_point_kills_its_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PASS_THREE_TIMES, "here:2:kill"], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"0\n1\n")


def test_a_point_freezes_its_process() -> None:
    with subprocess.Popen([sys.executable, "-c", PASS_THREE_TIMES, "here:3:stop"]) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        assert process.wait(10) == 0


@pytest.mark.parametrize("fault", ["here", "here:0:kill", "here:1:explode", "here:1:sleep"])
def test_a_fault_that_cannot_be_understood_stops_the_start(fault: str, tmp_path: Path) -> None:
    variables = environment(THREADLOOM_FAULT=fault, THREADLOOM_DATA_DIR=str(tmp_path))
    done = subprocess.run(
        [COMMAND, "db", "upgrade"], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"THREADLOOM_FAULT: {fault!r} is not name:n:action")


def test_the_environment_arms_a_point(tmp_path: Path) -> None:
    variables = environment(
        THREADLOOM_FAULT="migration.statement:5:kill", THREADLOOM_DATA_DIR=str(tmp_path)
    )
    done = subprocess.run([COMMAND, "db", "upgrade"], env=variables, check=False)
    assert done.returncode == -signal.SIGKILL
