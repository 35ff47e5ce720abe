"""What was appended to many logs since each was last looked at, in one statement."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from threadloom.db.engine import is_sqlite


class Tail(NamedTuple):
    """The events of a run after a place of its log."""

    run_id: str
    epoch: int
    seq: int


class Appended(NamedTuple):
    """An event, and the number of the tail that it belongs to."""

    number: int
    epoch: int
    seq: int
    name: str
    data: str


# LATERAL has PostgreSQL look up each run by the table's key, whatever it believes about how many rows there are.
POSTGRES = text(
    """
    SELECT asked.number - 1, event.epoch, event.seq, event.name, event.data
    FROM unnest(CAST(:runs AS text[]), CAST(:epochs AS bigint[]), CAST(:seqs AS bigint[]))
        WITH ORDINALITY AS asked (run_id, epoch, seq, number)
    CROSS JOIN LATERAL (
        SELECT * FROM events WHERE run_id = asked.run_id AND (epoch, seq) > (asked.epoch, asked.seq)
        ORDER BY epoch, seq LIMIT :most) AS event
    ORDER BY asked.number, event.epoch, event.seq
    """
)
SQLITE = text(
    """
    SELECT :number, epoch, seq, name, data FROM events
    WHERE run_id = :run_id AND (epoch, seq) > (:epoch, :seq) ORDER BY epoch, seq LIMIT :most
    """
)


def read_tails(session: Session, tails: Sequence[Tail], most: int) -> list[Appended]:
    """At most `most` events of each, in their order."""
    connection = session.connection()
    if is_sqlite(connection.engine):
        return [
            Appended(*row)
            for number, tail in enumerate(tails)
            for row in connection.execute(
                SQLITE, {**tail._asdict(), "number": number, "most": most}
            )
        ]
    runs, epochs, seqs = map(list, zip(*tails, strict=True))
    asked = {"runs": runs, "epochs": epochs, "seqs": seqs, "most": most}
    return [Appended(*row) for row in connection.execute(POSTGRES, asked)]
