"""The host's side of the protocol: what a driver says is hostile, and whoever asks may leave at any time."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sandbox.puppets import PNG, Puppet, puppet_and_kernel
from threadloom.sandbox import channel, kernel
from threadloom.sandbox.frames import HEAD, MAX_FRAME, PIECE, Data, Value, packed
from threadloom.sandbox.kernel import Kernel
from threadloom.sandbox.session import (
    Finished,
    Listing,
    Logs,
    Output,
    Picture,
    SandboxFile,
    SandboxFileRefused,
    SandboxLost,
)

Pair = tuple[Puppet, Kernel]


@pytest.fixture
async def pair() -> AsyncGenerator[Pair]:
    async with puppet_and_kernel() as both:
        yield both


async def outputs_of(kernel: Kernel, code: str = "code", seconds: float = 5) -> list[Output]:
    return [output async for output in kernel.execute(code, seconds=seconds)]


async def content(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def read(kernel: Kernel, file: SandboxFile) -> bytes:
    return b"".join([piece async for piece in kernel.get(file)])


async def answers_pings(pair: Pair) -> bool:
    puppet, kernel = pair
    ping = asyncio.create_task(kernel.ping())
    puppet.say("pong", await puppet.asked("ping"), memory=7)
    return await ping == 7


async def test_a_cell_is_sent_with_its_limits(pair: Pair) -> None:
    puppet, kernel = pair
    running = asyncio.create_task(outputs_of(kernel, "1+1", 3))
    request = await puppet.request()
    assert request == {
        "op": "exec",
        "id": "1",
        "code": "1+1",
        "seconds": 3,
        "call": "",
        "kept": "",
        "max_output": 256,
        "max_pictures": 2,
        "max_files": 5,
    }
    puppet.done("1")
    assert await running == [Finished("ok")]
    assert not kernel.fresh


async def test_outputs_come_in_their_order(pair: Pair) -> None:
    puppet, kernel = pair
    running = asyncio.create_task(outputs_of(kernel))
    id_ = await puppet.asked("exec")
    puppet.say("log", id_, text="a")
    puppet.say("picture", id_, media_type="image/png", size=len(PNG) + 3)
    puppet.give(PNG, b"abc")
    puppet.say("log", id_, text="b")
    files: list[Value] = [{"path": "x/ü.csv", "size": 3}]
    puppet.done(id_, ending="timeout", state_lost=True, cut=9, files=files)
    assert await running == [
        Logs("a"),
        Picture("image/png", PNG + b"abc"),
        Logs("b"),
        Finished("timeout", state_lost=True, cut=9, files=(SandboxFile("x/ü.csv", 3),)),
    ]


async def test_half_characters_become_question_marks(pair: Pair) -> None:
    puppet, kernel = pair
    running = asyncio.create_task(outputs_of(kernel, "print('\ud800')"))
    request = await puppet.request()
    assert request["code"] == "print('?')"
    puppet.write(message(b'{"ev": "log", "id": "1", "text": "a\\ud800\\ud83d\\ude00"}'))
    puppet.done("1")
    assert await running == [Logs("a?😀"), Finished("ok")]


async def test_code_that_is_too_long_is_not_run(pair: Pair) -> None:
    _, kernel = pair
    outputs = await outputs_of(kernel, "#" * MAX_FRAME)
    assert outputs == [Logs("The code is too long to be run.\n"), Finished("error")]
    assert kernel.fresh
    assert await answers_pings(pair)


def said(event: str, **fields: Value) -> bytes:
    return packed({"ev": event, "id": "1"} | fields)


def message(content: bytes) -> bytes:
    return HEAD.pack(len(content), ord("J")) + content


def picture(content: bytes = PNG, size: int = len(PNG), media_type: str = "image/png") -> bytes:
    return said("picture", media_type=media_type, size=size) + packed(Data(content))


def done(**fields: Value) -> bytes:
    usual: dict[str, Value] = {"ending": "ok", "state_lost": False, "cut": 0, "files": []}
    return said("done", **(usual | fields))


def listing(path: str, size: Value = 1) -> bytes:
    return done(files=[{"path": path, "size": size}])


HOSTILE = {
    "no such event": said("what"),
    "no event": message(b'{"id":"1"}'),
    "an event that is none": message(b'{"id":"1","ev":[]}'),
    "another cell's end": done(id="2"),
    "nobody's output": message(b'{"ev":"log","text":"a"}'),
    "another request's answer": said("got"),
    "ready again": message(b'{"ev":"ready","v":1}'),
    "refusal": said("fail", code="busy", error="busy"),
    "bytes of nothing": packed(Data(b"abc")),
    "no text": said("log", text=None),
    "too much text": said("log", text="a" * 20_000),
    "padding": said("log", text="", more="a" * 1_000_000) * 3,
    "too many pictures": picture() * 3,
    "huge picture": picture(size=10**9),
    "picture of less than nothing": picture(size=-1),
    "picture of true bytes": picture(size=True),
    "web page": picture(media_type="text/html"),
    "picture that is none": picture(b"<script>"),
    "picture that is too long": picture(PNG + b"a"),
    "empty piece": picture(b""),
    "end within a picture": picture(size=9) + done(),
    "no such ending": done(ending="fine"),
    "less than nothing cut": done(cut=-1),
    "no files": done(files="a"),
    "file that is none": done(files=["a"]),
    "file without size": done(files=[{"path": "a"}]),
    "file above": listing("../a"),
    "file far above": listing("a/../../b"),
    "file at the root": listing("/etc/passwd"),
    "file of no name": listing(""),
    "file here": listing("./a"),
    "file with nothing in its name": listing("a\0b"),
    "file with a long name": listing("a" * 5000),
    "file of a size that is none": listing("a", "1"),
    "no JSON": message(b"{"),
    "no UTF-8": message(b'{"ev":"\xff"}'),
    "no object": message(b"[]"),
    "deep JSON": message(b"[" * 100_000),
    "deep answer": message(
        b'{"ev":"log","id":"1","text":"a","more":' + b"[" * 400 + b"]" * 400 + b"}"
    ),
    "deep answer with half a character": message(
        b'{"ev":"log","id":"1","text":"\\ud800","more":' + b"[" * 900 + b"]" * 900 + b"}"
    ),
    "number that no computer has": message(
        b'{"ev":"log","id":"1","text":"\\ud800","more":' + b"1" * 40 + b"}"
    ),
    "refusal that is no file's": said("fail", code="no_space", error="full"),
    "refusal for a list of reasons": said("fail", code=["no_space"], error="full"),
    "long number": message(b'{"ev":' + b"1" * 10_000 + b"}"),
    "no kind": HEAD.pack(2, ord("X")) + b"{}",
    "large frame": b"\xff\xff\xff\xffJ",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_driver_that_breaks_the_protocol_is_lost(pair: Pair, name: str) -> None:
    puppet, kernel = pair
    running = asyncio.create_task(outputs_of(kernel))
    await puppet.asked("exec")
    puppet.write(HOSTILE[name])
    with pytest.raises(SandboxLost, match="broke its protocol"):
        await running
    with pytest.raises(SandboxLost):
        await kernel.files()


@pytest.mark.parametrize(
    "last", [b"", b"\0\0", b"\0\0\0\x09Jabc", said("log", text="a"), picture(size=9)]
)
async def test_a_driver_that_ends_is_lost(pair: Pair, last: bytes) -> None:
    puppet, kernel = pair
    running = asyncio.create_task(outputs_of(kernel))
    await puppet.asked("exec")
    puppet.write(last)
    puppet.close()
    with pytest.raises(SandboxLost, match="has ended"):
        await running


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\0\0\0\x02J{}", b"\0\0\0\0J", b"D"])))
async def test_noise_is_nothing_but_a_lost_sandbox(noise: list[bytes]) -> None:
    async with puppet_and_kernel() as (puppet, kernel):
        running = asyncio.create_task(outputs_of(kernel))
        await puppet.asked("exec")
        puppet.write(b"".join(noise))
        puppet.close()
        with pytest.raises(SandboxLost):
            await running


@pytest.mark.parametrize(
    ("why", "sentence"),
    [("idle", "not used for long"), ("life", "end of its life"), ("else", "has ended")],
)
async def test_a_driver_that_says_goodbye_is_lost_and_the_reason_is_told(
    pair: Pair, why: str, sentence: str
) -> None:
    puppet, kernel = pair
    puppet.say("bye", why=why)
    with pytest.raises(SandboxLost, match=sentence):
        await kernel.ping()


async def test_a_driver_of_another_version_is_lost() -> None:
    with pytest.raises(SandboxLost, match="sandbox build"):
        async with puppet_and_kernel(version=2):
            pass


async def test_a_driver_that_does_not_end_a_cell_in_time_is_lost(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "BACKSTOP", 0.05)
    puppet, session = pair
    running = asyncio.create_task(outputs_of(session, seconds=0.05))
    puppet.say("log", await puppet.asked("exec"), text="a")
    with pytest.raises(SandboxLost, match="did not answer"):
        await running


async def test_a_slow_taker_of_outputs_does_not_use_up_the_cells_time(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "BACKSTOP", 0.1)
    puppet, session = pair
    running = session.execute("code", seconds=0.1)
    first = asyncio.ensure_future(anext(running))
    id_ = await puppet.asked("exec")
    for _ in range(3):
        puppet.say("log", id_, text="a")
    puppet.done(id_)
    outputs = [await first]
    async for output in running:
        await asyncio.sleep(0.15)
        outputs.append(output)
    assert outputs == [Logs("a")] * 3 + [Finished("ok")]


async def test_leaving_a_cell_interrupts_it_and_the_next_request_waits_for_its_end(
    pair: Pair,
) -> None:
    puppet, kernel = pair
    async with aclosing(kernel.execute("code", seconds=60)) as outputs:
        first = asyncio.ensure_future(anext(outputs))
        id_ = await puppet.asked("exec")
        puppet.say("log", id_, text="a")
        await first
    assert await puppet.request() == {"op": "interrupt", "id": id_, "grace": 1.0}
    listing = asyncio.create_task(kernel.files())
    puppet.say("log", id_, text="late")
    puppet.write(picture())
    puppet.done(id_, ending="interrupted")
    puppet.say("files", await puppet.asked("files"), files=[])
    assert list(await listing) == []


async def test_a_cell_that_was_left_and_does_not_end_is_given_up(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "BACKSTOP", 0.05)
    puppet, session = pair
    running = asyncio.create_task(outputs_of(session))
    await puppet.asked("exec")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(SandboxLost, match="did not answer"):
        await session.ping()


async def test_a_file_goes_in_by_pieces(pair: Pair) -> None:
    puppet, kernel = pair
    whole = b"0123456789" * 60_000
    putting = asyncio.create_task(
        kernel.put("a.bin", len(whole), content(whole[:1], b"", whole[1:]))
    )
    request = await puppet.request()
    assert (request["op"], request["path"], request["size"]) == ("put", "a.bin", len(whole))
    received = await puppet.received(len(whole))
    puppet.say("put", str(request["id"]))
    await putting
    assert received == whole


async def test_a_piece_is_never_larger_than_agreed(pair: Pair) -> None:
    puppet, kernel = pair
    putting = asyncio.create_task(kernel.put("a.bin", 3 * PIECE, content(bytes(3 * PIECE))))
    id_ = await puppet.asked("put")
    for _ in range(3):
        assert await puppet.hear() == Data(bytes(PIECE))
    puppet.say("put", id_)
    await putting


async def test_a_file_larger_than_the_disk_is_refused_unsent(pair: Pair) -> None:
    _, kernel = pair
    with pytest.raises(SandboxFileRefused, match="no room"):
        await kernel.put("a.bin", 2 * 1024**2, content())
    assert await answers_pings(pair)


async def test_a_refused_file_is_sent_to_its_end_all_the_same(pair: Pair) -> None:
    puppet, kernel = pair
    putting = asyncio.create_task(kernel.put("a.bin", 8, content(b"abcd", b"efgh")))
    puppet.say("fail", await puppet.asked("put"), code="no_space", error="full")
    assert await puppet.received(8) == b"abcdefgh"
    with pytest.raises(SandboxFileRefused, match="no room"):
        await putting
    assert await answers_pings(pair)


@pytest.mark.parametrize(("given", "sent"), [(b"abc", 3), (b"abcdefghijk", 0)])
@pytest.mark.parametrize("refused", [False, True])
async def test_a_file_of_another_size_than_announced_is_given_up(
    pair: Pair, given: bytes, sent: int, refused: bool
) -> None:
    puppet, kernel = pair
    putting = asyncio.create_task(kernel.put("a.bin", 8, content(given)))
    id_ = await puppet.asked("put")
    await puppet.received(sent)
    with pytest.raises(SandboxFileRefused, match="changed"):
        await putting
    if refused:
        puppet.say("fail", id_, code="no_space", error="full")
    listing = asyncio.create_task(kernel.files())
    puppet.say("files", await puppet.asked("files"), files=[])
    puppet.say("files", await puppet.asked("files"), files=[{"path": "b", "size": 2}])
    assert list(await listing) == [SandboxFile("b", 2)]


async def test_a_second_name_is_made_or_refused(pair: Pair) -> None:
    puppet, kernel = pair
    linking = asyncio.create_task(kernel.link("file-1", "a.txt"))
    puppet.say("linked", await puppet.asked("link"))
    await linking
    linking = asyncio.create_task(kernel.link("file-1", "a.txt"))
    puppet.say("fail", await puppet.asked("link"), code="bad_path", error="no")
    with pytest.raises(SandboxFileRefused, match="no place"):
        await linking


async def test_a_file_is_removed_or_stays(pair: Pair) -> None:
    puppet, kernel = pair
    removing = asyncio.create_task(kernel.remove("a.txt"))
    puppet.say("removed", await puppet.asked("remove"))
    await removing
    removing = asyncio.create_task(kernel.remove("folder"))
    puppet.say("fail", await puppet.asked("remove"), code="bad_path", error="no")
    with pytest.raises(SandboxFileRefused):
        await removing


async def test_a_file_comes_out(pair: Pair) -> None:
    puppet, kernel = pair
    reading = asyncio.create_task(read(kernel, SandboxFile("a", 5)))
    request = await puppet.request()
    assert (request["op"], request["path"], request["size"]) == ("get", "a", 5)
    puppet.say("file", "1", size=5)
    puppet.give(b"ab", b"cde")
    puppet.say("got", "1")
    assert await reading == b"abcde"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("missing", "not there"),
        ("not_a_file", "no regular|not a regular"),
        ("too_large", "too large"),
        ("changed", "has changed"),
    ],
)
async def test_a_file_that_cannot_be_had_is_refused(pair: Pair, code: str, sentence: str) -> None:
    puppet, kernel = pair
    reading = asyncio.create_task(read(kernel, SandboxFile("a", 5)))
    puppet.say("fail", await puppet.asked("get"), code=code, error="/etc/passwd")
    with pytest.raises(SandboxFileRefused, match=sentence):
        await reading
    assert await answers_pings(pair)


async def test_a_file_may_be_refused_half_way(pair: Pair) -> None:
    puppet, kernel = pair
    reading = asyncio.create_task(read(kernel, SandboxFile("a", 5)))
    id_ = await puppet.asked("get")
    puppet.say("file", id_, size=5)
    puppet.give(b"ab")
    puppet.say("fail", id_, code="changed", error="shorter")
    with pytest.raises(SandboxFileRefused, match="changed"):
        await reading
    assert await answers_pings(pair)


async def test_a_file_that_became_shorter_is_refused_and_what_comes_of_it_is_passed_over(
    pair: Pair,
) -> None:
    puppet, kernel = pair
    reading = asyncio.create_task(read(kernel, SandboxFile("a", 5)))
    id_ = await puppet.asked("get")
    puppet.say("file", id_, size=3)
    puppet.give(b"abc")
    puppet.say("got", id_)
    with pytest.raises(SandboxFileRefused, match="changed"):
        await reading
    assert await answers_pings(pair)


@pytest.mark.parametrize("size", [6, 10**15])
async def test_a_driver_that_gives_more_than_was_asked_for_is_lost(pair: Pair, size: int) -> None:
    puppet, kernel = pair
    reading = asyncio.create_task(read(kernel, SandboxFile("a", 5)))
    puppet.say("file", await puppet.asked("get"), size=size)
    with pytest.raises(SandboxLost):
        await reading


async def test_files_are_listed_by_path(pair: Pair) -> None:
    puppet, kernel = pair
    listing = asyncio.create_task(kernel.files())
    files: list[Value] = [{"path": "b", "size": 2}, {"path": "a/c", "size": 0}]
    puppet.say("files", await puppet.asked("files"), files=files, complete=True)
    assert await listing == Listing([SandboxFile("a/c", 0), SandboxFile("b", 2)])
    listing = asyncio.create_task(kernel.files())
    puppet.say("files", await puppet.asked("files"), files=[])
    assert await listing == Listing([], complete=False)


async def test_files_above_the_data_are_not_listed(pair: Pair) -> None:
    puppet, kernel = pair
    listing = asyncio.create_task(kernel.files())
    puppet.say("files", await puppet.asked("files"), files=[{"path": "../b", "size": 2}])
    with pytest.raises(SandboxLost):
        await listing


@pytest.mark.parametrize("code", ["no_space", "busy", ["no_space"], None])
async def test_only_files_are_refused(pair: Pair, code: Value) -> None:
    puppet, kernel = pair
    pinging = asyncio.create_task(kernel.ping())
    puppet.say("fail", await puppet.asked("ping"), code=code, error="full")
    with pytest.raises(SandboxLost):
        await pinging


@pytest.mark.parametrize("code", ["busy", ["no_space"], None])
async def test_a_refusal_for_no_known_reason_ends_the_sandbox(pair: Pair, code: Value) -> None:
    puppet, kernel = pair
    linking = asyncio.create_task(kernel.link("a", "b"))
    puppet.say("fail", await puppet.asked("link"), code=code, error="full")
    with pytest.raises(SandboxLost):
        await linking


async def test_clocks_are_started(pair: Pair) -> None:
    puppet, kernel = pair
    claiming = asyncio.create_task(kernel.claim(5, 9))
    assert await puppet.request() == {"op": "claim", "id": "1", "idle": 5, "life": 9}
    puppet.say("claimed", "1")
    await claiming


async def use(kernel: Kernel) -> None:
    await outputs_of(kernel)
    await kernel.put("a", 6, content(b"abcdef"))
    await read(kernel, SandboxFile("a", 6))
    await kernel.files()
    await kernel.ping()


@pytest.mark.parametrize("steps", range(60))
async def test_whoever_is_cancelled_at_whatever_point_leaves_a_kernel_that_works(
    steps: int,
) -> None:
    async with puppet_and_kernel() as (puppet, kernel):
        obeying = asyncio.create_task(puppet.obey())
        using = asyncio.create_task(use(kernel))
        for _ in range(steps):
            await asyncio.sleep(0)
        using.cancel()
        with suppress(asyncio.CancelledError):
            await using
        assert list(await kernel.files()) == [SandboxFile("a", 6)]
        assert await read(kernel, SandboxFile("a", 6)) == b"abcdef"
        assert len(await outputs_of(kernel)) == 3
        obeying.cancel()
