"""What is said of the packages that we are made of."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tools.audit import NOT_DONE, VULNERABLE, verdict_of

ROOT = Path(__file__).parents[1]
SAFE: dict[str, Any] = {"name": "safe", "version": "1", "vulns": []}
BROKEN: dict[str, Any] = {
    "name": "broken",
    "version": "2",
    "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["2.1"]}],
}
UNKNOWN: dict[str, Any] = {"name": "unknown", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code", "words"),
    [
        ([SAFE], 0, "no known vulnerabilities in 1 packages"),
        ([SAFE, BROKEN], VULNERABLE, "broken 2: PYSEC-2026-1 (fixed in 2.1)"),
        ([SAFE, BROKEN, UNKNOWN], VULNERABLE, "broken 2"),
        ([SAFE, UNKNOWN], NOT_DONE, "NOT DONE for unknown"),
        ([UNKNOWN], NOT_DONE, "NOT DONE. No vulnerability service"),
        ([], NOT_DONE, "NOT DONE"),
        (None, NOT_DONE, "NOT DONE"),
    ],
)
def test_an_audit_of_nothing_is_not_one_that_found_nothing(
    packages: list[dict[str, Any]] | None, code: int, words: str
) -> None:
    verdict = verdict_of(None if packages is None else {"dependencies": packages})
    assert verdict.code == code
    assert words in verdict.text


def test_checking_the_code_asks_for_an_audit() -> None:
    assert "-m tools.audit --where-possible" in recipe("lint")
    assert recipe("audit").splitlines()[-1].endswith("-m tools.audit")


def test_the_bill_of_materials_names_every_locked_package(tmp_path: Path) -> None:
    command = recipe("sbom").splitlines()[-1]
    written = tmp_path / "sbom.json"
    subprocess.run(
        command.replace("sbom.json", str(written)),
        cwd=ROOT,
        shell=True,
        check=True,
        capture_output=True,
    )
    bill = json.loads(written.read_text())
    locked = dict(
        re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    )
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "threadloom"
    assert {one["name"]: one["version"] for one in bill["components"]} == locked
    assert all(one["purl"].startswith("pkg:pypi/") for one in bill["components"])
    assert all(one["externalReferences"][0]["hashes"] for one in bill["components"])


def recipe(target: str) -> str:
    """What make would do."""
    command = ["make", "--no-print-directory", "--dry-run", target]
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
