"""`holdfast fsck` on files that were really damaged."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec import structs

from holdfast import Agent, Runtime, SQLiteStore, history, tool
from holdfast.drivers.sim import Sim, call, fail, say
from holdfast.store import Snapshot
from tests.cli.kit import ECHO, Cli
from tests.forged import rechain


@pytest.fixture
def damage(cli: Cli) -> Callable[[str], None]:
    """Two sessions, and a way to change their rows behind Holdfast's back."""
    cli.ok("run", *ECHO, "first")
    cli.ok("run", *ECHO, "second")

    def change(statement: str) -> None:
        connection = apsw.Connection(str(cli.db))
        connection.execute(statement)
        assert connection.changes() > 0
        connection.close()

    return change


def fsck(cli: Cli, code: int) -> Any:
    result = cli("fsck", str(cli.db), "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


@pytest.mark.usefixtures("damage")
def test_a_sound_file_has_no_problems_and_is_not_changed(cli: Cli) -> None:
    before = cli.db.read_bytes()
    report = fsck(cli, 0)
    assert (report["sessions"], report["events"], report["problems"]) == (2, 10, [])
    assert "2 sessions, 10 events, 0 problems" in cli.ok("fsck", str(cli.db))
    assert cli.db.read_bytes() == before


DAMAGES = {
    "an event is missing": ("DELETE FROM events WHERE key = (1 << 32 | 3)", "gap"),
    "an event is no JSON": ("UPDATE events SET body = '{\"id\":' WHERE key = (1 << 32 | 3)", "event"),
    "an event has other words": (
        "UPDATE events SET body = replace(body, 'first', 'other') WHERE key = (1 << 32 | 2)",
        "chain",
    ),
    "a blob has other bytes": ("UPDATE blobs SET data = CAST('other' AS BLOB)", "blob"),
    "a turn ended twice": (
        "UPDATE events SET body = replace(ended.body, '\"sequence\":5', '\"sequence\":4') "
        "FROM (SELECT body FROM events WHERE key = (1 << 32 | 5)) AS ended WHERE key = (1 << 32 | 4)",
        "log",
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_each_damage_is_named_with_its_place_and_ends_with_exit_code_1(
    case: str, cli: Cli, damage: Callable[[str], None]
) -> None:
    statement, kind = DAMAGES[case]
    damage(statement)
    if kind == "log":
        rechain(cli.db)
    problems = fsck(cli, 1)["problems"]
    assert {problem["kind"] for problem in problems} == {kind}
    text = cli("fsck", str(cli.db))
    assert text.exit_code == 1
    assert problems[0]["where"] in text.stdout


def of_other_events(kept: Snapshot) -> Snapshot:
    """Whole, and with another title than the log says."""
    body = kept.body[32:].replace(b'"echo"', b'"else"')
    return structs.replace(kept, body=hashlib.sha256(body).digest() + body)


SNAPSHOTS: dict[str, tuple[Callable[[Snapshot], Snapshot], str]] = {
    "sound": (lambda kept: kept, ""),
    "of a newer release": (lambda kept: structs.replace(kept, version=kept.version + 1, body=b"?"), ""),
    "changed": (lambda kept: structs.replace(kept, body=kept.body + b" "), "its bytes have changed"),
    "of other events": (of_other_events, "it is not what the events up to it say"),
}


@pytest.mark.parametrize("case", SNAPSHOTS)
async def test_a_snapshot_is_held_against_the_events_it_was_made_of(
    case: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "WORTH", 3)
    spoil, problem = SNAPSHOTS[case]
    async with Runtime(cli.db) as runtime:
        session = await runtime.session(Agent(name="echo", model=Sim.always("Hi.")))
        await session.run("Go.")
    store = SQLiteStore(cli.db)
    await store.open()
    kept = await store.load_snapshot(session.id)
    assert kept is not None
    await store.save_snapshot(session.id, spoil(kept))
    await store.close()
    found = (await asyncio.to_thread(fsck, cli, 1 if problem else 0))["problems"]
    assert [(it["kind"], it["where"]) for it in found] == [("snapshot", session.id)] * bool(problem)
    assert all(problem in it["message"] for it in found)


def test_a_call_without_an_outcome_in_a_turn_that_ended_is_a_problem(cli: Cli) -> None:
    cli.ok("run", *ECHO, "first")
    connection = apsw.Connection(str(cli.db))
    (body,) = (connection.execute("SELECT body FROM events WHERE key = (1 << 32 | 4)").get,)
    reply = json.loads(body)
    call = {"type": "tool_call", "id": "turn.1.0", "name": "pay", "arguments": "{}"}
    reply["data"]["message"]["content"].append(call)
    connection.execute("UPDATE events SET body = ? WHERE key = (1 << 32 | 4)", (json.dumps(reply),))
    connection.close()
    rechain(cli.db)
    messages = [problem["message"] for problem in fsck(cli, 1)["problems"]]
    assert "turn.1.0 has no outcome" in messages


async def test_turns_under_way_waiting_failed_and_empty_are_sound(cli: Cli) -> None:
    @tool(effect="once", ask=True)
    async def pay() -> str:
        """Pay."""
        return "paid"

    async with Runtime(cli.db) as runtime:
        for said in (call("pay"), say(""), fail("authentication", "No.")):
            session = await runtime.session(Agent(name="a", model=Sim.storyboard(said), tools=[pay]))
            await session.run("Go.")
        assert (await asyncio.to_thread(fsck, cli, 0))["sessions"] == 3


def test_a_lease_of_a_machine_that_was_started_anew_is_a_note(
    cli: Cli, damage: Callable[[str], None]
) -> None:
    damage("UPDATE sessions SET held_by = 'x', held_until = 9, held_boot = 'before' WHERE number = 1")
    report = fsck(cli, 0)
    assert [note["kind"] for note in report["notes"]] == ["lease"]


def test_a_file_whose_pages_are_torn_is_a_problem_and_one_of_another_program_an_error(
    cli: Cli, damage: Callable[[str], None], tmp_path: Path
) -> None:
    content = bytearray(cli.db.read_bytes())
    content[8_192:] = b"\xa5" * (len(content) - 8_192)
    cli.db.write_bytes(content)
    assert fsck(cli, 1)["problems"][0]["kind"] == "damage"
    (tmp_path / "notes.txt").write_text("Not a database, however long one looks at it. " * 9)
    assert cli("fsck", str(tmp_path / "notes.txt")).exit_code == 2
