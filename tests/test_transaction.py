"""A tool's transaction in the log's database: its effect and its outcome are committed together, or neither is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, Deny, HookEvent, Modify, Runtime, Session, stragglers, tool
from holdfast.config import Limits
from holdfast.drivers.sim import call, calls, say
from holdfast.errors import OutcomeUnknown, StaleEpoch
from holdfast.hook import Hook
from holdfast.messages import ToolResult
from holdfast.services import FILES
from holdfast.stores import sqlite_transaction
from holdfast.testing import FailingStore
from tests.bank import Bank, FileBank, ServerBank, balances, mover, open_accounts, teller
from tests.turn.scenes import agent_of, assert_sound, results, session_with


@pytest.fixture(params=["sqlite", "postgres"])
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> Bank:
    if request.param == "sqlite":
        return FileBank(tmp_path / "bank.db")
    return ServerBank(request.getfixturevalue("postgres_url"), request.getfixturevalue("schema"))


@asynccontextmanager
async def working(bank: Bank, *steps: Any, tools: list[Any], **options: Any) -> AsyncIterator[Session]:
    async with Runtime(bank.store, drain=0) as runtime:
        await open_accounts(bank)
        yield await runtime.session(teller(*steps, tools=tools, **options))


async def outcome(session: Session) -> ToolResult:
    """The one result of a turn that came to its end."""
    result = await session.run("Move it.")
    assert (result.status, result.text) == ("completed", "done"), result.error
    events = await session.events()
    assert_sound(events)
    (only,) = results(events)
    return only


UNTOUCHED = {"ana": 100, "ben": 0}
MOVED = {"ana": 70, "ben": 30}
MOVE = call("move", cents=30)


async def test_what_a_tool_did_is_there_with_its_outcome(bank: Bank) -> None:
    async with working(bank, MOVE, tools=[mover(bank)]) as session:
        result = await outcome(session)
    assert (result.status, result.text) == ("ok", "moved 30")
    assert await balances(bank) == MOVED


async def test_nobody_sees_it_before_the_outcome_is_recorded(bank: Bank) -> None:
    seen = []

    async def look(_: Context) -> None:
        seen.append(await balances(bank))

    async with working(bank, MOVE, tools=[mover(bank, inside=look, after=look)]) as session:
        await outcome(session)
    assert seen == [UNTOUCHED, UNTOUCHED]
    assert await balances(bank) == MOVED


async def test_a_statement_sees_what_an_earlier_one_wrote(bank: Bank) -> None:
    @tool(effect="idempotent")
    async def count(ctx: Context) -> int:
        """Count."""
        async with ctx.transaction() as db:
            assert await db.execute(bank.sql("INSERT INTO accounts VALUES (?, ?)"), "cleo", 7) == []
            rows = await db.execute(bank.sql("SELECT name, cents FROM accounts ORDER BY name"))
            assert rows == [("ana", 100), ("ben", 0), ("cleo", 7)]
        return len(rows)

    async with working(bank, call("count"), tools=[count]) as session:
        assert (await outcome(session)).text == "3"


async def stumble(_: Context) -> None:
    raise RuntimeError("stumbled")


async def linger(_: Context) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize("place", ["inside", "after"])
async def test_a_tool_that_fails_leaves_nothing(bank: Bank, place: str) -> None:
    async with working(bank, MOVE, tools=[mover(bank, **{place: stumble})]) as session:
        result = await outcome(session)
    assert (result.status, result.text) == ("error", "Error: move failed: RuntimeError: stumbled.")
    assert await balances(bank) == UNTOUCHED


@pytest.mark.parametrize("place", ["inside", "after"])
async def test_a_tool_that_takes_too_long_leaves_nothing(
    bank: Bank, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stragglers, "GRACE", 30.0)  # a server that is slow to roll back is no straggler here
    async with working(bank, MOVE, tools=[mover(bank, **{place: linger}, timeout=0.3)]) as session:
        result = await outcome(session)
    assert (result.status, "it took longer than 0.3 s" in result.text) == ("error", True)
    assert await balances(bank) == UNTOUCHED


@pytest.mark.parametrize("place", ["inside", "after"])
async def test_a_cancelled_turn_leaves_nothing_and_other_sessions_go_on(bank: Bank, place: str) -> None:
    there = asyncio.Event()

    async def stand(_: Context) -> None:
        there.set()
        await asyncio.sleep(60)

    async with working(bank, MOVE, tools=[mover(bank, **{place: stand})]) as session:
        turn = await session.send("Move it.")
        await there.wait()
        result = await turn.cancel("enough")
        assert result.status == "cancelled"
        (settled,) = results(await session.events())
        assert settled.status == "in_doubt"
        assert await balances(bank) == UNTOUCHED
        assert (await session.run("And now?")).status == "completed"
    assert await balances(bank) == UNTOUCHED


async def test_an_outcome_that_a_hook_denies_takes_the_effect_with_it(bank: Bank) -> None:
    async def deny(event: HookEvent) -> Deny | None:
        return Deny("not like this") if event.tool == "move" else None

    hook = Hook(id="guard", point="after_tool", run=deny)
    async with working(bank, MOVE, tools=[mover(bank)], hooks=(hook,)) as session:
        result = await outcome(session)
    assert result.status == "denied"
    assert await balances(bank) == UNTOUCHED


async def test_an_outcome_that_a_hook_rewords_is_committed(bank: Bank) -> None:
    async def reword(event: HookEvent) -> Modify:
        return Modify(result="in other words")

    hook = Hook(id="words", point="after_tool", run=reword)
    async with working(bank, MOVE, tools=[mover(bank)], hooks=(hook,)) as session:
        assert (await outcome(session)).text == "in other words"
    assert await balances(bank) == MOVED


async def test_a_writer_whose_session_was_taken_over_commits_nothing(bank: Bank) -> None:
    rival = bank.another()

    @tool(effect="idempotent")
    async def take(ctx: Context) -> str:
        """Take."""
        await rival.claim(ctx.session.id, owner=session._journal.writer.name)
        async with ctx.transaction() as db:
            await db.execute(bank.sql("UPDATE accounts SET cents = cents - ? WHERE name = ?"), 30, "ana")
        return "took"

    async with working(bank, call("take"), tools=[take]) as session:
        await rival.open()
        with pytest.raises(StaleEpoch):
            await session.run("Move it.")
        assert "tool.completed" not in [event.type for event in await rival.read(session.id)]
    assert await balances(bank) == UNTOUCHED
    await rival.close()


async def test_a_second_transaction_of_a_call_is_refused(bank: Bank) -> None:
    async def again(ctx: Context) -> None:
        ctx.transaction()

    async with working(bank, MOVE, tools=[mover(bank, after=again)]) as session:
        result = await outcome(session)
    assert (result.status, "UsageError: a call has one transaction" in result.text) == ("error", True)
    assert await balances(bank) == UNTOUCHED


async def test_nothing_can_be_executed_after_the_block(bank: Bank) -> None:
    @tool(effect="idempotent")
    async def late(ctx: Context) -> str:
        """Come late."""
        async with ctx.transaction() as db:
            await db.execute("SELECT 1")
        await db.execute("SELECT 1")
        return "fine"

    async with working(bank, call("late"), tools=[late]) as session:
        assert "UsageError: statements belong inside the block" in (await outcome(session)).text


@pytest.mark.parametrize("statement", ["COMMIT", "-- so\n rollback", "/* x */ BEGIN", "END"])
async def test_a_tool_cannot_end_its_transaction_by_itself(bank: Bank, statement: str) -> None:
    @tool(effect="idempotent", name="move")
    async def commit(ctx: Context, cents: int) -> str:
        """Commit."""
        async with ctx.transaction() as db:
            await db.execute(bank.sql("UPDATE accounts SET cents = cents - ?"), 0)
            await db.execute(statement)
        return "done"

    async with working(bank, MOVE, tools=[commit]) as session:
        assert "UsageError: a transaction is begun and ended for the tool" in (await outcome(session)).text
    assert await balances(bank) == UNTOUCHED


async def test_what_the_database_refuses_is_an_error_that_the_tool_may_catch(bank: Bank) -> None:
    caught: list[str] = []

    @tool(effect="idempotent")
    async def overdraw(ctx: Context) -> str:
        """Overdraw."""
        async with ctx.transaction() as db:
            await db.execute("SAVEPOINT before")
            try:
                await db.execute(bank.sql("UPDATE accounts SET cents = cents - ? WHERE name = ?"), 500, "ana")
            except Exception as error:
                caught.append(type(error).__name__)
            await db.execute("ROLLBACK TO SAVEPOINT before")
            await db.execute(bank.sql("UPDATE accounts SET cents = cents + ? WHERE name = ?"), 1, "ben")
        return "gave one"

    async with working(bank, call("overdraw"), tools=[overdraw]) as session:
        assert (await outcome(session)).text == "gave one"
    assert caught in (["ConstraintError"], ["CheckViolationError"])
    assert await balances(bank) == {"ana": 100, "ben": 1}


async def test_an_exception_that_leaves_the_block_undoes_it_even_if_the_tool_goes_on(bank: Bank) -> None:
    @tool(effect="idempotent")
    async def try_it(ctx: Context) -> str:
        """Try."""
        try:
            async with ctx.transaction() as db:
                await db.execute(bank.sql("UPDATE accounts SET cents = cents - ? WHERE name = ?"), 1, "ana")
                raise LookupError
        except LookupError:
            return "left it"

    async with working(bank, call("try_it"), tools=[try_it]) as session:
        result = await outcome(session)
    assert (result.status, result.text) == ("ok", "left it")
    assert await balances(bank) == UNTOUCHED


async def test_calls_side_by_side_each_have_a_transaction_and_their_siblings_outcomes_are_kept(
    bank: Bank,
) -> None:
    @tool(effect="once")
    async def tell() -> str:
        """Tell."""
        return "told"

    async def wait_a_little(_: Context) -> None:
        await asyncio.sleep(0.05)

    moves = [("move", {"cents": cents}) for cents in (1, 2, 3, 4, 5, 6, 7, 8)]
    board = calls(*[it for move in moves for it in (move, ("tell", {}))])
    async with working(
        bank, board, tools=[mover(bank, inside=wait_a_little, after=wait_a_little), tell]
    ) as session:
        result = await session.run("Move it.")
        events = await session.events()
    assert result.status == "completed"
    assert_sound(events)
    assert sorted(it.text for it in results(events)) == sorted(
        [f"moved {cents}" for cents in range(1, 9)] + ["told"] * 8
    )
    assert await balances(bank) == {"ana": 64, "ben": 36}


async def test_other_sessions_go_on_beside_it(bank: Bank) -> None:
    async def wait_a_little(_: Context) -> None:
        await asyncio.sleep(0.05)

    tools = [mover(bank, inside=wait_a_little)]
    async with Runtime(bank.store, drain=0) as runtime:
        await open_accounts(bank)
        sessions = [await runtime.session(teller(call("move", cents=2), tools=tools)) for _ in range(5)]
        plain = [await runtime.session(agent_of(say("hello"))) for _ in range(20)]
        ended = await asyncio.gather(*[it.run("Go.") for it in (*sessions, *plain)])
    assert {it.status for it in ended} == {"completed"}
    assert await balances(bank) == {"ana": 90, "ben": 10}


async def test_a_long_result_is_kept_whole_beside_the_transaction(bank: Bank) -> None:
    async def talk(_: Context) -> str:
        return "spam " * 1_000

    limits = Limits(result_bytes=20)
    async with working(bank, MOVE, tools=[mover(bank, after=talk)], limits=limits) as session:
        result = await outcome(session)
        digest = result.text.rpartition(" ")[2].rstrip("]")
        assert await bank.store.get_blob(digest) == b"spam " * 1_000
    assert (result.status, await balances(bank)) == ("ok", MOVED)


async def test_a_large_file_written_inside_is_there_with_the_rest_or_not_at_all(bank: Bank) -> None:
    async def write(ctx: Context) -> None:
        await ctx.scope[FILES].write("/receipt.txt", b"x" * 100_000)
        assert await ctx.scope[FILES].read("/receipt.txt") == b"x" * 100_000

    async def write_and_stumble(ctx: Context) -> None:
        await write(ctx)
        raise RuntimeError("stumbled")

    async with working(bank, MOVE, tools=[mover(bank, inside=write_and_stumble)]) as session:
        assert (await outcome(session)).status == "error"
        assert await session.files.list("/") == []
    async with working(bank, MOVE, tools=[mover(bank, inside=write)]) as session:
        assert (await outcome(session)).status == "ok"
        assert await session.files.read("/receipt.txt") == b"x" * 100_000
    assert await balances(bank) == MOVED


async def test_a_large_file_stays_when_a_savepoint_around_it_is_undone(bank: Bank) -> None:
    @tool(effect="idempotent")
    async def write(ctx: Context) -> str:
        """Write."""
        async with ctx.transaction() as db:
            await db.execute("SAVEPOINT before")
            await ctx.scope[FILES].write("/receipt.txt", b"x" * 100_000)
            await db.execute("ROLLBACK TO SAVEPOINT before")
        return "wrote"

    async with working(bank, call("write"), tools=[write]) as session:
        assert (await outcome(session)).text == "wrote"
        assert await session.files.read("/receipt.txt") == b"x" * 100_000


@pytest.mark.parametrize("done", [False, True])
async def test_when_the_commit_fails_or_its_answer_is_lost_the_log_says_whether_it_moved(
    bank: Bank, done: bool
) -> None:
    agent = teller(MOVE, tools=[mover(bank)])
    failing = FailingStore(bank.store, OutcomeUnknown("no answer"), at=3, done=done)
    async with Runtime(failing, drain=0) as runtime:
        await open_accounts(bank)
        session = await runtime.session(agent)
        with pytest.raises(OutcomeUnknown):
            await session.run("Move it.")
        recorded = results(await bank.store.read(session.id))
        assert (len(recorded), await balances(bank)) == ((1, MOVED) if done else (0, UNTOUCHED))
    async with Runtime(bank.another(), drain=0, agents=[agent]) as runtime:
        session = await runtime.open(session.id)
        assert session.turn is not None
        assert (await session.turn).status == "completed"
        assert_sound(await session.events())
    assert (failing.failed, await balances(bank)) == (1, MOVED)


async def test_a_block_without_a_statement_is_no_transaction(bank: Bank) -> None:
    @tool(effect="idempotent")
    async def idle(ctx: Context) -> str:
        """Do nothing."""
        async with ctx.transaction():
            await asyncio.sleep(0)
        return "nothing to do"

    async with working(bank, call("idle"), tools=[idle]) as session:
        assert (await outcome(session)).text == "nothing to do"


async def test_a_store_without_a_database_says_so() -> None:
    @tool(effect="idempotent")
    async def write(ctx: Context) -> str:
        """Write."""
        async with ctx.transaction() as db:
            await db.execute("SELECT 1")
        return "wrote"

    async with session_with(agent_of(call("write"), say("done"), tools=[write])) as session:
        await session.run("go")
        (result,) = results(await session.events())
    assert (
        "TransactionUnsupported: MemoryStore has no transactions for tools; keep the log in a SQL"
        in result.text
    )


async def test_one_that_stands_idle_on_sqlite_is_undone_so_that_others_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_transaction, "IDLE", 0.2)
    bank = FileBank(tmp_path / "bank.db")
    await bank.store.open()
    await open_accounts(bank)
    for place in ("inside", "after"):
        there, undone = asyncio.Event(), asyncio.Event()

        async def stand(_: Context, there: asyncio.Event = there, undone: asyncio.Event = undone) -> None:
            there.set()
            await undone.wait()

        async with Runtime(bank.another(), drain=0) as runtime:
            idle = await runtime.session(teller(MOVE, tools=[mover(bank, **{place: stand})]))
            other = await runtime.session(agent_of(say("hello")))
            turn = await idle.send("Move it.")
            await there.wait()
            assert (await other.run("Hello?")).text == "hello"
            undone.set()
            assert (await turn).status == "completed"
            (result,) = results(await idle.events())
        assert result.status == "error"
        assert "TransactionLost: the transaction was rolled back: no statement came for 0.2 s" in result.text
        assert await balances(bank) == UNTOUCHED
    await bank.store.close()


async def test_a_statement_on_sqlite_that_takes_too_long_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_transaction, "LONGEST", 0.3)
    bank = FileBank(tmp_path / "bank.db")

    @tool(effect="idempotent")
    async def count(ctx: Context) -> str:
        """Count for ever."""
        async with ctx.transaction() as db:
            await db.execute("UPDATE accounts SET cents = 1")
            forever = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
            await db.execute(forever)
        return "counted"

    async with Runtime(bank.store, drain=0) as runtime:
        await open_accounts(bank)
        session = await runtime.session(teller(call("count"), tools=[count]))
        result = await outcome(session)
    assert "TransactionLost: a statement was stopped" in result.text
    assert await balances(bank) == UNTOUCHED


async def test_a_deferred_constraint_on_postgres_fails_the_call_and_not_the_session(
    postgres_url: str, schema: str
) -> None:
    bank = ServerBank(postgres_url, schema)
    await bank.store.open()
    await open_accounts(bank)
    await bank.ask("ALTER TABLE accounts ADD boss TEXT REFERENCES accounts DEFERRABLE INITIALLY DEFERRED")
    await bank.store.close()

    @tool(effect="idempotent")
    async def employ(ctx: Context) -> str:
        """Employ."""
        async with ctx.transaction() as db:
            await db.execute(bank.sql("UPDATE accounts SET boss = ?"), "nobody")
        return "employed"

    async with working(bank, call("employ"), tools=[employ]) as session:
        result = await outcome(session)
    assert (result.status, "ForeignKeyViolationError" in result.text) == ("error", True)
    assert await bank.ask("SELECT boss FROM accounts") == [(None,), (None,)]
