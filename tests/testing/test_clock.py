"""The virtual clock: timers take no time, the world outside still counts."""

import asyncio
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast import Agent, Context, Runtime, tool
from holdfast.drivers.sim import Sim, call, say
from holdfast.testing import VirtualClock, run_virtual
from holdfast.testing.clock import START


def elapsed() -> float:
    return asyncio.get_running_loop().time()


def test_a_long_sleep_takes_no_real_time() -> None:
    async def main() -> float:
        await asyncio.sleep(86_400)
        return elapsed()

    assert run_virtual(main()) == pytest.approx(86_400)  # the test's own time limit is far less than a day


def test_timers_fire_in_the_order_of_their_instants() -> None:
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((name, round(elapsed(), 6)))

    async def main() -> None:
        await asyncio.gather(sleeper("c", 30), sleeper("a", 0.1), sleeper("b", 10))

    run_virtual(main())
    assert woken == [("a", 0.1), ("b", 10.0), ("c", 30.0)]


def test_time_stands_still_while_something_can_run() -> None:
    async def main() -> float:
        waiting = asyncio.create_task(asyncio.sleep(1))
        for _ in range(1_000):
            await asyncio.sleep(0)
        assert not waiting.done()
        before = elapsed()
        await waiting
        return before

    assert run_virtual(main()) == 0.0


def test_a_timeout_fires_at_its_instant() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(300):
                await asyncio.Event().wait()
        return elapsed()

    assert run_virtual(main()) == pytest.approx(300)


def test_a_threads_result_beats_a_timer() -> None:
    async def main() -> tuple[str, float]:
        async with asyncio.timeout(5):
            done = await asyncio.to_thread(lambda: (time.sleep(0.02), "done")[1])
        return done, elapsed()

    result, seconds = run_virtual(main(), patience=30)
    assert result == "done"
    assert seconds == 0.0


def test_a_thread_that_hangs_gets_only_the_patience() -> None:
    release = threading.Event()

    async def main() -> None:
        try:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3_600):
                    await asyncio.to_thread(release.wait, 60)
        finally:
            release.set()

    run_virtual(main(), patience=0.01)


def test_a_thread_of_somebody_else_is_waited_for() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        heard = asyncio.Event()

        def speak() -> None:
            time.sleep(0.02)
            loop.call_soon_threadsafe(heard.set)

        thread = threading.Thread(target=speak)
        thread.start()
        async with asyncio.timeout(5):
            await heard.wait()
        thread.join()
        return elapsed()

    assert run_virtual(main(), patience=30) == 0.0


def test_a_jump_costs_no_patience_once_the_jobs_are_done() -> None:
    async def main() -> float:
        await asyncio.to_thread(int)
        await asyncio.sleep(86_400)
        return elapsed()

    assert run_virtual(main(), patience=3_600) == pytest.approx(86_400)  # or the test's time limit ends it


class Counting(threading.Thread):
    owed = 0


def test_nothing_is_expected_of_a_thread_that_says_it_owes_nothing() -> None:
    release = threading.Event()

    async def main() -> float:
        thread = Counting(target=release.wait, args=(60,))
        thread.start()
        try:
            await asyncio.sleep(86_400)
        finally:
            release.set()
            thread.join()
        return elapsed()

    assert run_virtual(main(), patience=3_600) == pytest.approx(86_400)  # or the test's time limit ends it


def test_a_thread_that_says_it_owes_something_is_waited_for() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        heard = asyncio.Event()

        def speak() -> None:
            time.sleep(0.02)
            loop.call_soon_threadsafe(heard.set)

        thread = Counting(target=speak)
        thread.owed = 1
        thread.start()
        async with asyncio.timeout(5):
            await heard.wait()
        thread.join()
        return elapsed()

    assert run_virtual(main(), patience=30) == 0.0


def test_what_is_sure_to_be_reported_is_waited_for_however_slow_it_is() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        heard = asyncio.Event()

        def speak() -> None:
            time.sleep(0.1)
            loop.call_soon_threadsafe(heard.set)

        thread = Counting(target=speak)
        thread.owed = 1
        thread.start()
        async with asyncio.timeout(5):
            await heard.wait()
        thread.join()
        with ThreadPoolExecutor(1) as given:
            async with asyncio.timeout(5):
                await loop.run_in_executor(given, time.sleep, 0.1)
        return elapsed()

    assert run_virtual(main(), patience=0.01) == 0.0


def test_a_sqlite_store_that_is_open_costs_no_patience(tmp_path: Path) -> None:
    async def main() -> float:
        async with Runtime(tmp_path / "log.db", clock=VirtualClock()) as runtime:
            session = await runtime.session(Agent(model=Sim.script(say("hello"))))
            await session.run("hi")
            await asyncio.sleep(60)  # in which letters are looked for, again and again
        return elapsed()

    assert run_virtual(main(), patience=3_600) >= 60


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "rolled back"])
def test_a_tools_transaction_is_waited_for_and_then_forgotten(tmp_path: Path, kept: bool) -> None:
    @tool(effect="idempotent")
    async def work(ctx: Context) -> str:
        """Work."""
        async with ctx.transaction() as db:
            await db.execute("CREATE TABLE IF NOT EXISTS done (what TEXT)")
            await db.execute("INSERT INTO done VALUES (?)", "it")
            if not kept:
                raise LookupError("no such luck")
        return "worked"

    async def main() -> tuple[str, float]:
        async with Runtime(tmp_path / "log.db", clock=VirtualClock()) as runtime:
            session = await runtime.session(Agent(model=Sim.script(call("work"), say("done")), tools=[work]))
            before = elapsed()
            result = await session.run("go")
            took = elapsed() - before
            await asyncio.sleep(60)
        return result.text, took

    assert run_virtual(main(), patience=3_600) == ("done", 0.0)


def test_a_socket_is_heard_before_a_timer_fires() -> None:
    async def main() -> bytes:
        here, there = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=here)
        thread = threading.Thread(target=lambda: (time.sleep(0.02), there.sendall(b"hello")))
        thread.start()
        async with asyncio.timeout(5):
            heard = await reader.readexactly(5)
        thread.join()
        writer.close()
        there.close()
        return heard

    assert run_virtual(main(), patience=30) == b"hello"


def test_a_child_process_is_waited_for() -> None:
    async def main() -> bytes:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('hello')", stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(20):
            output, _ = await child.communicate()
        return output

    assert run_virtual(main(), patience=60).strip() == b"hello"


def test_the_clock_follows_the_loop() -> None:
    async def main() -> timedelta:
        clock = VirtualClock()
        assert clock.now() == START
        await asyncio.sleep(90)
        return clock.now() - START

    assert run_virtual(main()) == timedelta(seconds=90)


def test_the_clock_may_start_anywhere() -> None:
    async def main() -> None:
        clock = VirtualClock(START + timedelta(days=365))
        await asyncio.sleep(1)
        assert clock.now() == START + timedelta(days=365, seconds=1)

    run_virtual(main())


def test_an_error_in_main_reaches_the_caller() -> None:
    async def main() -> None:
        await asyncio.sleep(1)
        raise LookupError("no such luck")

    with pytest.raises(LookupError, match="no such luck"):
        run_virtual(main())
