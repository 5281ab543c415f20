"""`holdfast sessions` and `files`, and how a session may be named."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from holdfast import Agent, Registry, Runtime, TurnResult, Usage
from holdfast.cli.view import view_for
from holdfast.drivers.sim import Sim, say
from tests.cli.kit import ECHO, Cli


def test_sessions_are_listed_the_latest_first(cli: Cli) -> None:
    for text in ("one", "two", "three"):
        cli.ok("run", *ECHO, text)
    listed = cli.json("sessions")
    assert [it["title"] for it in listed] == ["three", "two", "one"]
    assert {it["status"] for it in listed} == {"completed"}
    assert len(cli.json("sessions", "-n", "2")) == 2
    lines = cli.ok("sessions").splitlines()
    assert listed[0]["id"] in lines[0]
    assert "5 events" in lines[0]


def test_a_title_stands_before_the_first_words(cli: Cli) -> None:
    async def make() -> None:
        async with Runtime(cli.db) as runtime:
            session = await runtime.session(Agent(model=Sim.always("Hi.")), title="Named")
            await session.run("First words.")

    asyncio.run(make())
    assert cli.json("sessions")[0]["title"] == "Named"


def test_a_session_is_named_by_its_id_its_beginning_its_end_or_last(cli: Cli) -> None:
    for text in ("one", "two"):
        cli.ok("run", *ECHO, text)
    latest, first = [it["id"] for it in cli.json("sessions")]
    assert cli.json("show", "last")["id"] == latest
    for name in (first, first.removeprefix("session_"), first[:-4], first[-10:]):
        assert cli.json("show", name)["id"] == first


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("0", "sessions are called '0'"),
        ("zzz", "no session is called 'zzz'"),
        ("", "no session is called ''"),
    ],
)
def test_a_name_that_is_not_one_session_is_an_error_on_one_line(cli: Cli, name: str, said: str) -> None:
    for text in ("one", "two"):
        cli.ok("run", *ECHO, text)
    result = cli("show", name)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command", ["sessions", "show", "events", "inspect", "explain", "files", "approve x"]
)
def test_looking_makes_no_database(cli: Cli, command: str) -> None:
    result = cli(*command.split())
    assert result.exit_code == 2
    assert "there is no database at" in result.stderr
    assert not cli.db.exists()


def test_files_of_a_session_are_listed_and_read(cli: Cli, place: Path) -> None:
    cli.ok("run", *ECHO, "--dir", str(place), "hi")
    assert cli.ok("files").split() == ["23", "/note.txt"]
    assert cli.ok("files", "last", "note.txt") == "first line\nsecond line\n"
    assert cli("files", "last", "nope").exit_code == 2
    cli.ok(
        "run", *ECHO, "--capability", "files", 'call write_file {"path": "a/b.txt", "content": "on the log"}'
    )
    assert cli.ok("files", "last", "a/b.txt") == "on the log"


def test_what_a_turn_cost_is_shown_where_it_is_known(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    model = Sim.always(say("Hello.", usage=Usage(input_tokens=1_000_000)))

    async def make() -> TurnResult:
        async with Runtime(cli.db, registry=Registry(drivers={"openai": model})) as runtime:
            session = await runtime.session(Agent(model="openai/gpt-4o"))
            return await session.run("Hello?")

    view_for(False).end("session_1", asyncio.run(make()))
    assert "1,000,000 tokens in, 0 out · $2.50 · session_1" in capsys.readouterr().err
    assert cli.ok("show", "last").count("$2.50") == 3  # of the session, its turn, the reply
    assert cli.ok("sessions").splitlines()[0].endswith("$2.50")
    shown = cli.json("show", "last")
    costs = {shown["cost"], shown["turns"][0]["cost"], cli.json("sessions")[0]["cost"]}
    assert {Decimal(cost) for cost in costs} == {Decimal("2.5")}
    cli.ok("run", *ECHO, "--session", "last", "Hello?")
    assert cli.json("sessions")[0]["cost"] is None
