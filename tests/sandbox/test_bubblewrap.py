"""Where bubblewrap's sandboxes are refused, and how they are started. CI runs as root, who may not: no code is run here."""

import itertools
import shutil
import sys
from pathlib import Path

import pytest

from threadloom.config import CodeInterpreter
from threadloom.sandbox.bubblewrap import Bubblewrap, command
from threadloom.sandbox.opening import open_sandbox
from threadloom.sandbox.session import SandboxUnavailable
from threadloom.sandbox.sessions import Sessions

SETTINGS = CodeInterpreter(runtime="bubblewrap", memory=512 * 1024**2, disk=64 * 1024**2)
USER = 1000


async def test_root_is_refused() -> None:
    launcher = Bubblewrap(SETTINGS, uid=0)
    assert "refused for root" in str(await launcher.check())
    with pytest.raises(SandboxUnavailable, match="refused for root"):
        await launcher.launch()


async def test_a_missing_program_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await Bubblewrap(SETTINGS, uid=USER).check() == (
        "`bwrap` is missing: install bubblewrap, or use Docker."
    )


async def test_a_python_without_ipython_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy("/bin/true", tmp_path / "bwrap")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[-1:])
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert "has no IPython" in str(await Bubblewrap(SETTINGS, uid=USER).check())


async def test_a_sandbox_that_does_not_start_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "IPython").mkdir()
    (tmp_path / "IPython/__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    launcher = Bubblewrap(SETTINGS, uid=USER)
    with pytest.raises(SandboxUnavailable, match="did not start"):
        await launcher.launch()
    await launcher.close()


def test_it_is_the_first_process_with_nothing_of_ours() -> None:
    """Or code could read the server's environment in /proc/1."""
    words = command(SETTINGS)
    assert {"--as-pid-1", "--clearenv", "--unshare-all", "--disable-userns"} <= set(words)
    assert {"--die-with-parent", "--new-session"} <= set(words)
    pairs = list(itertools.pairwise(words))
    assert ("--cap-drop", "ALL") in pairs
    assert ("--remount-ro", "/") in pairs
    assert "--bind" not in words


def test_disk_and_memory_are_limited() -> None:
    words = command(SETTINGS)
    assert words[4:7] == [str(512 * 1024), str(64 * 2048), "1024"]
    at = words.index("/mnt/data")
    assert words[at - 3 : at] == ["--size", str(64 * 1024**2), "--tmpfs"]


async def test_settings_choose_it() -> None:
    sandbox = open_sandbox(SETTINGS)
    assert isinstance(sandbox, Sessions)
    await sandbox.close()
