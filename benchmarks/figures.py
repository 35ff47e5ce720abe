"""What is measured, and how it compares with what was wanted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Goal:
    """A bound; at most, unless `at_least`."""

    bound: float
    at_least: bool = False

    def met_by(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.bound:g}"


@dataclass(frozen=True)
class Figure:
    """One measured value."""

    name: str
    value: float
    unit: str

    @property
    def goal(self) -> Goal | None:
        return GOALS.get(self.name)

    def as_json(self) -> dict[str, Any]:
        goal = self.goal
        return {
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "goal": str(goal) if goal else None,
            "met": goal.met_by(self.value) if goal else None,
        }


GOALS = {
    "first token, 1 client, overhead p50": Goal(8),
    "unpaced 2,000 tokens, 1 client, share of direct": Goal(0.15, at_least=True),
    "unpaced 2,000 tokens, 1 client, CPU a token": Goal(40),
    "32 streams x 50 tokens/s, share of direct": Goal(0.9, at_least=True),
    "32 streams x 50 tokens/s, CPU a token": Goal(250),
    "32 streams x 50 tokens/s, other requests p95": Goal(250),
    "run of 20 tokens, 1 client, CPU": Goal(5),
    "run of 20 tokens, 8 clients, CPU": Goal(5),
    "run of 20 tokens, 32 clients, CPU": Goal(5),
    **{
        f"{request}, {clients}, CPU": Goal(bound)
        for request, bound in (("POST message", 1.1), ("GET run", 0.6), ("list 20", 0.8))
        for clients in ("1 client", "8 clients", "32 clients")
    },
    "memory at rest": Goal(170),
    "cold start, empty data directory, CPU": Goal(3),
    "cold start, existing data directory, CPU": Goal(3),
    "sandbox, first `1+1`, cold": Goal(2000),
    "sandbox, first `1+1`, from the pool": Goal(50),
    "sandbox, later `1+1`": Goal(5),
    "sandbox, `1+1` after its process was killed": Goal(100),
}


def table(figures: Sequence[Figure]) -> str:
    """The figures for people."""
    width = max(len(figure.name) for figure in figures)
    lines: list[str] = []
    for figure in figures:
        line = f"{figure.name:<{width}}  {figure.value:>10.3f} {figure.unit:<10}"
        if goal := figure.goal:
            line += f" {goal!s:<8} {'met' if goal.met_by(figure.value) else 'MISSED'}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def clients_of(number: int) -> str:
    return "1 client" if number == 1 else f"{number} clients"


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
