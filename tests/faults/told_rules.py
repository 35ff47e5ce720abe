"""What programs were told by webhooks: I1, I5, I7, I8, as docs/webhooks.md promises it."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from tests.faults.case import Case
from tests.faults.final import Row
from tests.faults.history import Delivery
from tests.faults.run_rules import RUN_STATUS

NEVER = sys.maxsize
ENDS_OF_FILES = ("completed", "failed", "cancelled")


def untold(case: Case) -> Iterator[str]:
    """Each event is told in the end."""
    taken = {one.event_id for one in case.history.of(Delivery) if one.taken}
    for row in case.final.webhook_deliveries:
        if row["status"] != "delivered":
            yield f"{row['type']} of {row['subject']} is {row['status']} in the end: {row['error']}"
        elif row["event_id"] not in taken:
            yield f"{row['type']} of {row['subject']} is told in the log only"


def sent_unclaimed(case: Case) -> Iterator[str]:
    """An event comes again only where another claimed it: each claim sends it once."""
    sent = Counter(one.event_id for one in case.history.of(Delivery))
    for row in case.final.webhook_deliveries:
        if sent[row["event_id"]] > row["epoch"]:
            yield f"{row['event_id']} was sent {sent[row['event_id']]} times in {row['epoch']} claims"


def other_story(case: Case) -> Iterator[str]:
    """What is told of a run or a file is what happened to it, and each event follows the one before."""
    if not case.final.webhook_endpoints:
        return
    stories: dict[str, list[Row]] = defaultdict(list)
    for row in case.final.webhook_deliveries:
        stories[row["subject"]].append(row)
    for subject, happened in happenings(case).items():
        told = [row["type"] for row in stories[subject]]
        if told != happened:
            yield f"{subject} went through {happened}, and {told} was told"
    sent, taken = first_places(case)
    for subject, rows in stories.items():
        for earlier, later in pairwise(rows):
            if sent.get(later["event_id"], NEVER) < taken.get(earlier["event_id"], NEVER):
                yield f"{subject}: {later['type']} was sent before {earlier['type']} was taken"


def happenings(case: Case) -> dict[str, list[str]]:
    """The events that ought to be told, by subject, of what is still there."""
    found: dict[str, list[str]] = {run["id"]: [] for run in case.final.runs}
    for row in case.final.events:
        status = RUN_STATUS.fullmatch(row["name"])
        if status and status[1] != "created" and row["run_id"] in found:
            found[row["run_id"]].append(row["name"])
    for file in case.final.vector_store_files:
        if file["status"] in ENDS_OF_FILES:
            found[file["id"]] = [f"vector_store.file.{file['status']}"]
    return found


def first_places(case: Case) -> tuple[dict[str, int], dict[str, int]]:
    """The places in the history of each event's first request, and of the first that was answered with success."""
    sent: dict[str, int] = {}
    taken: dict[str, int] = {}
    for place, one in enumerate(case.history.of(Delivery)):
        sent.setdefault(one.event_id, place)
        if one.taken:
            taken.setdefault(one.event_id, place)
    return sent, taken


def told_to_strangers(case: Case) -> Iterator[str]:
    owner = {answer["id"]: r.project for r, answer in case.acknowledged if answer.get("id")}
    for one in case.history.of(Delivery):
        if not one.genuine:
            yield f"{one.project} was told of {one.type} without a signature that verifies"
        for name in one.data.values():
            if owner.get(name, one.project) != one.project:
                yield f"{one.project} was told of {name}"
