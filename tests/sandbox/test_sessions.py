"""Who has which sandbox, with drivers that are puppets."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress

import pytest

from tests.sandbox.puppets import PuppetLauncher
from threadloom.config import CodeInterpreter
from threadloom.sandbox import channel, pool, sessions
from threadloom.sandbox.kernel import Kernel
from threadloom.sandbox.session import SandboxLost, SandboxUnavailable
from threadloom.sandbox.sessions import Sessions

Held = tuple[Sessions, PuppetLauncher]


@asynccontextmanager
async def opened(**settings: object) -> AsyncGenerator[Held]:
    limits = CodeInterpreter.model_validate({"pool": 0} | settings)
    launcher = PuppetLauncher(limits)
    sandbox = Sessions(limits, launcher)
    try:
        yield sandbox, launcher
    finally:
        await sandbox.close()
    assert launcher.running == 0


@pytest.fixture
async def held() -> AsyncGenerator[Held]:
    async with opened(max_sessions=2) as both:
        yield both


async def run(kernel: Kernel, code: str = "code") -> None:
    async for _ in kernel.execute(code, seconds=5):
        pass


async def use(sandbox: Sessions, key: str) -> bool:
    """Execute something; gives whether the session was fresh."""
    async with sandbox.session(key) as kernel:
        fresh = kernel.fresh
        await run(kernel)
        return fresh


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)


async def waiting(work: Awaitable[None]) -> asyncio.Task[None]:
    """Begun, and as far as it comes by itself."""
    task = asyncio.ensure_future(work)
    await what_goes_by_itself()
    return task  # pyright: ignore[reportReturnType] - a coroutine's future is a task


async def what_goes_by_itself() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_key_keeps_its_sandbox(held: Held) -> None:
    sandbox, launcher = held
    assert await use(sandbox, "a")
    assert not await use(sandbox, "a")
    assert launcher.launches == 1
    assert list(await sandbox.keys()) == ["a"]


async def test_a_sandbox_gets_its_clocks_when_it_is_given_away() -> None:
    async with opened(idle=50, life=90) as (sandbox, launcher):
        await use(sandbox, "a")
        first = launcher.puppets[0].requests[0]
        assert (first["op"], first["idle"], first["life"]) == ("claim", 50, 90)


async def test_a_sandbox_in_which_nothing_was_executed_is_ended(held: Held) -> None:
    sandbox, launcher = held
    async with sandbox.session("a") as kernel:
        await kernel.files()
    assert list(await sandbox.keys()) == []
    await until(lambda: launcher.running == 0)


async def test_callers_of_a_key_take_turns_in_their_order(held: Held) -> None:
    sandbox, launcher = held
    order: list[int] = []

    async def caller(number: int) -> None:
        async with sandbox.session("a") as kernel:
            order.append(number)
            await run(kernel)
            order.append(number)

    await asyncio.gather(*(caller(number) for number in range(4)))
    assert order == [0, 0, 1, 1, 2, 2, 3, 3]
    assert launcher.launches == 1


async def test_callers_of_other_keys_do_not_wait(held: Held) -> None:
    sandbox, _ = held
    async with sandbox.session("a"), asyncio.timeout(20), sandbox.session("b"):
        assert sorted(await sandbox.keys()) == ["a", "b"]


async def test_the_one_idle_longest_makes_room(held: Held) -> None:
    sandbox, launcher = held
    for key in ("a", "b", "a", "c"):
        await use(sandbox, key)
    assert sorted(await sandbox.keys()) == ["a", "c"]
    await until(lambda: launcher.running == 2)
    assert not await use(sandbox, "a")
    assert await use(sandbox, "b")


async def test_a_caller_waits_until_one_is_idle(held: Held) -> None:
    sandbox, _ = held
    async with AsyncExitStack() as stack:
        for key in ("a", "b"):
            await run(await stack.enter_async_context(sandbox.session(key)))
        third = await waiting(use_quietly(sandbox, "c"))
        assert not third.done()
    await third
    assert "c" in await sandbox.keys()


async def use_quietly(sandbox: Sessions, key: str) -> None:
    await use(sandbox, key)


async def test_a_caller_waits_for_a_place_only_so_long(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "PATIENCE", 0.05)
    sandbox, _ = held
    async with sandbox.session("a"), sandbox.session("b"):
        with pytest.raises(SandboxUnavailable) as refusal:
            await use(sandbox, "c")
    assert str(refusal.value) == "All 2 sandboxes of this server are busy; try again later."
    assert await use(sandbox, "c")


async def test_a_sandbox_that_ended_while_it_was_idle_is_replaced(held: Held) -> None:
    sandbox, launcher = held
    await use(sandbox, "a")
    launcher.puppets[0].close()
    assert await use(sandbox, "a")
    assert not await use(sandbox, "a")


async def test_a_sandbox_that_ended_in_use_is_not_kept(held: Held) -> None:
    sandbox, launcher = held
    async with sandbox.session("a") as kernel:
        await run(kernel)
        launcher.puppets[0].close()
        with pytest.raises(SandboxLost):
            await run(kernel)
    assert list(await sandbox.keys()) == []
    assert await use(sandbox, "a")


async def test_an_idle_sandbox_is_ended_in_time() -> None:
    async with opened(idle=0.05) as (sandbox, launcher):
        await use(sandbox, "a")
        await until(lambda: launcher.running == 0)
        assert list(await sandbox.keys()) == []


async def test_a_sandbox_is_ended_at_the_end_of_its_life_but_not_under_its_user() -> None:
    async with opened(life=0.05) as (sandbox, launcher):
        async with sandbox.session("a") as kernel:
            await run(kernel)
            await asyncio.sleep(0.1)
            await run(kernel)
        await until(lambda: launcher.running == 0)
        await use(sandbox, "b")
        await until(lambda: launcher.running == 0)


async def test_a_cell_that_is_left_is_interrupted_before_the_next_caller_comes(held: Held) -> None:
    sandbox, launcher = held
    async with (
        sandbox.session("a") as kernel,
        aclosing(kernel.execute("forever", seconds=60)) as outputs,
    ):
        await anext(outputs)
    assert not await use(sandbox, "a")
    asked = [request["op"] for request in launcher.puppets[0].requests]
    assert asked == ["claim", "exec", "interrupt", "ping", "exec"]


async def test_a_cell_that_is_left_and_does_not_end_costs_the_sandbox(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "BACKSTOP", 0.05)
    sandbox, launcher = held
    async with (
        sandbox.session("a") as kernel,
        aclosing(kernel.execute("forever", seconds=60)) as outputs,
    ):
        await anext(outputs)
        launcher.puppets[0].stubborn = True
    assert await use(sandbox, "a")
    assert launcher.ended == 1


async def test_whatever_goes_wrong_with_what_was_left_costs_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(channel: channel.Channel) -> None:
        del channel
        raise RuntimeError

    async with opened(max_sessions=1) as (sandbox, launcher):
        async with (
            sandbox.session("a") as kernel,
            aclosing(kernel.execute("forever", seconds=60)) as outputs,
        ):
            await anext(outputs)
            monkeypatch.setattr(channel.Channel, "settle", fail)
        await until(lambda: launcher.ended == 1)
        monkeypatch.undo()
        async with asyncio.timeout(20):
            assert await use(sandbox, "a")


async def test_what_a_relay_left_under_way_is_ended_too(held: Held) -> None:
    sandbox, launcher = held
    async with sandbox.session("a") as kernel:
        limits = {"max_output": 9, "max_pictures": 1, "max_files": 1, "seconds": 9}
        await kernel.channel.send({"op": "exec", "id": "x", "code": "forever"} | limits)
    assert not await use(sandbox, "a")
    assert launcher.puppets[0].requests[2] == {"op": "interrupt", "id": "x", "grace": 1.0}


async def test_a_failed_start_is_told_and_leaves_no_place_taken() -> None:
    async with opened(max_sessions=1) as (sandbox, launcher):
        launcher.problem = "There is no engine."
        for key in ("a", "b"):
            with pytest.raises(SandboxUnavailable, match="no engine"):
                await use(sandbox, key)
        launcher.problem = None
        assert await use(sandbox, "c")


async def test_a_start_is_not_waited_for_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "START_SECONDS", 0.05)
    async with opened(max_sessions=1) as (sandbox, launcher):
        launcher.gate.clear()
        with pytest.raises(SandboxUnavailable, match="in time"):
            await use(sandbox, "a")
        launcher.gate.set()
        monkeypatch.undo()
        assert await use(sandbox, "b")
        assert launcher.launches == 1


async def test_many_who_come_at_once_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "AT_ONCE", 1)
    monkeypatch.setattr(pool, "START_SECONDS", 1.0)
    async with opened(max_sessions=6) as (sandbox, launcher):
        launcher.slowness = 0.25
        users = [use(sandbox, key) for key in "abcdef"]
        assert all(await asyncio.gather(*users))


async def test_what_was_started_for_a_caller_who_left_goes_to_the_next() -> None:
    async with opened(max_sessions=1) as (sandbox, launcher):
        launcher.gate.clear()
        first = await waiting(use_quietly(sandbox, "a"))
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        second = await waiting(use_quietly(sandbox, "b"))
        launcher.gate.set()
        await second
        assert launcher.launches == 1


@pytest.mark.parametrize("steps", range(30))
async def test_whoever_is_cancelled_at_whatever_point_blocks_nobody(steps: int) -> None:
    async with opened(max_sessions=1) as (sandbox, launcher):
        using = asyncio.create_task(use(sandbox, "a"))
        for _ in range(steps):
            await asyncio.sleep(0)
        using.cancel()
        with suppress(asyncio.CancelledError):
            await using
        async with asyncio.timeout(20):
            await use(sandbox, "a")
            await use(sandbox, "b")
        await until(lambda: launcher.running == 1)


async def test_a_key_is_ended_under_its_user(held: Held) -> None:
    sandbox, launcher = held
    async with sandbox.session("a") as kernel:
        await run(kernel)
        await sandbox.end("a")
        assert launcher.running == 0
        with pytest.raises(SandboxLost):
            await run(kernel)
    await sandbox.end("nobody's")
    assert await use(sandbox, "a")


async def test_a_key_is_ended_while_its_sandbox_starts(held: Held) -> None:
    sandbox, launcher = held
    launcher.gate.clear()
    using = await waiting(use_quietly(sandbox, "a"))
    await sandbox.end("a")
    launcher.gate.set()
    with pytest.raises(SandboxUnavailable):
        await using
    await until(lambda: launcher.running == 0)


async def test_closing_ends_all_and_refuses_the_rest() -> None:
    async with opened(max_sessions=1, pool=1) as (sandbox, launcher):
        async with sandbox.session("b") as kernel:
            same = await waiting(use_quietly(sandbox, "b"))
            other = await waiting(use_quietly(sandbox, "c"))
            await sandbox.close()
            assert launcher.running == 0
            with pytest.raises(SandboxLost):
                await run(kernel)
        for task in (same, other):
            with pytest.raises(SandboxUnavailable, match="shutting down"):
                await task
        with pytest.raises(SandboxUnavailable, match="shutting down"):
            await use(sandbox, "d")


async def test_the_pool_is_filled_at_the_start_and_after_each_claim() -> None:
    async with opened(pool=2) as (sandbox, launcher):
        assert await sandbox.start() is None
        assert launcher.sweeps == 1
        await until(lambda: launcher.running == 2)
        await what_goes_by_itself()
        launcher.gate.clear()
        await use(sandbox, "a")
        launcher.gate.set()
        await until(lambda: launcher.running == 3)
        assert launcher.puppets[0].requests[0]["op"] == "ping"


async def test_a_spare_that_ended_is_not_given_away() -> None:
    async with opened(pool=1) as (sandbox, launcher):
        await sandbox.start()
        await until(lambda: launcher.running == 1)
        await what_goes_by_itself()
        launcher.puppets[0].close()
        assert await use(sandbox, "a")
        assert launcher.ended == 1


async def test_a_spare_is_renewed_before_it_is_old() -> None:
    async with opened(pool=1, life=0.05) as (sandbox, launcher):
        await sandbox.start()
        await until(lambda: launcher.ended == 2)


async def test_nothing_is_started_where_nothing_can() -> None:
    async with opened(pool=1) as (sandbox, launcher):
        launcher.problem = "There is no engine."
        assert await sandbox.start() == "There is no engine."
        assert launcher.launches == launcher.sweeps == 0
        launcher.problem = None
        await use(sandbox, "a")
        await until(lambda: launcher.running == 2)


async def test_starts_that_fail_are_tried_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "FIRST_PAUSE", 0.05)
    async with opened(pool=1) as (sandbox, launcher):
        await sandbox.start()
        launcher.problem = "There is no engine."
        await until(lambda: launcher.launches == 3)
        launcher.problem = None
        await until(lambda: launcher.running == 1)


async def test_twenty_keys_never_share_a_sandbox() -> None:
    async with opened(max_sessions=20) as (sandbox, launcher):
        kernels: dict[str, Kernel] = {}

        async def caller(key: str) -> None:
            async with sandbox.session(key) as kernel:
                assert kernels.setdefault(key, kernel) is kernel
                await run(kernel)

        await asyncio.gather(*(caller(f"key {number % 20}") for number in range(100)))
        assert len({id(kernel) for kernel in kernels.values()}) == 20
        assert launcher.launches == 20
