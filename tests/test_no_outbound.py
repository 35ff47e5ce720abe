"""Nothing goes out that nobody configured: no telemetry, no lookup, no download."""

import pytest

from tests.support.offline import ABROAD, Sent, work_offline
from threadloom.llm.router import LOCAL_SERVERS

pytestmark = pytest.mark.timeout(300)


async def test_the_main_job_is_done_and_nothing_is_sent_abroad() -> None:
    told = await work_offline()
    assert "forty-one brass lanterns" in told.answer
    # Whoever watches sees connections and lookups.
    assert {(one.kind, one.address, one.port) for one in told.tried} >= {
        ("tcp", address, 443) for address in ABROAD
    }
    assert any(one.port == 53 for one in told.tried)
    assert not told.missed
    assert [one for one in told.sent if not one.is_local or one.port == 53] == []
    # On the machine itself: the server, and where model servers usually listen, to name them in the banner.
    expected = {told.port, *(port for _, port in LOCAL_SERVERS)}
    assert {one.port for one in told.sent} <= expected
    assert Sent("tcp", "127.0.0.1", told.port) in told.sent
    assert told.left == ()
