"""Asks a vulnerability service about the locked packages: `python -m tools.audit [--where-possible]`.

pip-audit says "No known vulnerabilities found" of packages that it could not ask about, too. Here that is its own answer: exit code 1 for known
vulnerabilities, 2 for an audit that was not done or not of everything. `--where-possible` says so in the same words and succeeds.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

LOCK = Path(__file__).parents[1] / "requirements.lock"
COMMAND = (
    sys.executable,
    "-m",
    "pip_audit",
    *("--requirement", str(LOCK), "--require-hashes", "--disable-pip"),
    *("--format", "json", "--progress-spinner", "off", "--timeout", "15"),
)
SECONDS = 300
VULNERABLE, NOT_DONE = 1, 2


@dataclass(frozen=True)
class Verdict:
    """What the audit says, and the exit code for it."""

    text: str
    code: int


def verdict_of(report: Mapping[str, Any] | None) -> Verdict:
    """Of pip-audit's report; None when it made none."""
    packages: Sequence[Mapping[str, Any]] = report["dependencies"] if report else ()
    asked = [one for one in packages if "skip_reason" not in one]
    if not asked:
        return Verdict(
            "audit: NOT DONE. No vulnerability service knows these packages or can be reached from here.",
            NOT_DONE,
        )
    found = [
        f"{one['name']} {one['version']}: {vuln['id']} (fixed in {', '.join(vuln['fix_versions']) or 'no version'})"
        for one in asked
        for vuln in one["vulns"]
    ]
    if found:
        return Verdict("\n".join(("audit: known vulnerabilities", *found)), VULNERABLE)
    if len(asked) < len(packages):
        skipped = ", ".join(one["name"] for one in packages if "skip_reason" in one)
        return Verdict(f"audit: NOT DONE for {skipped}. Nothing is known of the others.", NOT_DONE)
    return Verdict(f"audit: no known vulnerabilities in {len(asked)} packages.", 0)


def report() -> Mapping[str, Any] | None:
    try:
        done = subprocess.run(COMMAND, capture_output=True, timeout=SECONDS, check=False)
        return orjson.loads(done.stdout)
    except (subprocess.TimeoutExpired, orjson.JSONDecodeError):
        return None


def main() -> int:
    verdict = verdict_of(report())
    print(verdict.text, file=sys.stderr)
    return 0 if verdict.code == NOT_DONE and "--where-possible" in sys.argv else verdict.code


if __name__ == "__main__":
    sys.exit(main())
