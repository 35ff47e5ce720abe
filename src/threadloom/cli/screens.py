"""What `status` and `doctor` show to people."""

from typing import TYPE_CHECKING

import typer

from threadloom.cli.output import plain, show_fields, show_table, when

if TYPE_CHECKING:  # neither command loads what the other needs
    from threadloom.commands.doctor.findings import Finding
    from threadloom.commands.status import Status

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
THOUSAND = 1024


def show_status(status: "Status") -> None:
    typer.echo(f"Threadloom {status.version} on {status.database}\n")
    if status.processes:
        show_table(
            ("process", "host", "pid", "version", "started (UTC)", "seen"),
            [
                (
                    one.kind,
                    one.host,
                    one.pid,
                    one.version,
                    when(one.started_at),
                    f"{one.seconds_since_seen:.0f} s ago{', lost' if one.lost else ''}",
                )
                for one in status.processes
            ],
        )
    else:
        typer.echo("No process runs.")
    waiting, stored = status.waiting, status.stored
    typer.echo()
    show_fields(
        {
            "runs": ", ".join(f"{count} {name}" for name, count in status.runs.items()) or "none",
            "waiting runs": counted(waiting.runs, waiting.oldest_run),
            "waiting files": counted(waiting.files, waiting.oldest_file),
            "waiting webhooks": waiting.webhooks,
            "files": f"{stored.files} ({humane(stored.file_bytes)})",
            "vector stores": stored.vector_stores,
            "database": humane(stored.database_bytes),
        }
    )
    typer.echo()
    if status.failures:
        show_table(
            ("failed in a day", "runs", "last (UTC)"),
            [(one.code, one.runs, when(one.last_at)) for one in status.failures],
        )
    else:
        typer.echo("No run failed in the last day.")


def counted(count: int, oldest: float) -> str:
    return f"{count}, the oldest for {oldest:.0f} s" if count else "none"


def humane(size: float) -> str:
    """Bytes as a person writes them."""
    unit = 0
    while size >= THOUSAND and unit < len(UNITS) - 1:
        size, unit = size / THOUSAND, unit + 1
    return f"{size:.0f} {UNITS[unit]}" if unit == 0 else f"{size:.1f} {UNITS[unit]}"


def show_finding(finding: "Finding") -> None:
    """A line, and below it how to mend what is not green."""
    mark = {"green": "ok  ", "yellow": "WARN", "red": "FAIL"}[finding.colour]
    typer.echo(
        f"{typer.style(mark, fg=finding.colour)}  {plain(f'{finding.check}: {finding.says}')}"
    )
    if finding.mend:
        typer.echo(f"      {plain(finding.mend)}")
