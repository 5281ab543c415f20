"""`holdfast show` and `events`: what happened is told as it is."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from holdfast import Agent, Runtime, Usage, tool
from holdfast.drivers.sim import Sim, call, fail, say
from tests.cli.kit import ECHO, UNSET, Cli, finished, start, until

KILLED = Path(__file__).with_name("killed.py")


def killed(cli: Cli, effect: str) -> list[str]:
    """Run the program that dies in its tool; the command to run it again."""
    command = [sys.executable, str(KILLED), str(cli.db), effect]
    code, _, err = finished(start(command, UNSET))
    assert code == -signal.SIGKILL, err
    return command


def the_call(cli: Cli) -> dict[str, object]:
    (found,) = [entry for entry in cli.json("show")["turns"][0]["entries"] if entry["type"] == "call"]
    assert isinstance(found, dict)
    return found


def test_a_call_that_was_cut_off_is_shown_without_a_guess_and_later_as_in_doubt(cli: Cli) -> None:
    again = killed(cli, "once")
    text = cli.ok("show")
    assert "NO OUTCOME RECORDED · it is running or was cut off; if so, it may have had its effect" in text
    assert "Turn 1 · unfinished" in text
    assert (the_call(cli)["status"], the_call(cli)["attempts"]) == ("started", 1)
    assert finished(start(again, UNSET))[0] == 0
    text = cli.ok("show")
    assert 'strike {"where":"iron"}' in text
    assert "IN DOUBT · cut off before its outcome was recorded" in text
    assert "Turn 1 · completed" in text
    assert the_call(cli)["status"] == "in_doubt"


def test_a_pure_call_that_was_run_again_says_that_the_attempt_before_was_cut_off(cli: Cli) -> None:
    again = killed(cli, "pure")
    assert finished(start(again, UNSET))[0] == 0
    assert "attempt 2, the one before was cut off · struck iron" in cli.ok("show")


async def tell_much(db: Path) -> None:
    """A session with a retry, tokens, thinking, a failing and a denied call, and a hostile message."""

    @tool(effect="pure")
    async def burn() -> str:
        """Fail."""
        raise ValueError("too hot")

    model = Sim.script(
        fail("overloaded", "try later", retry_after=1.0),
        call("burn"),
        say(
            "Evil \x1b[31mred\x1b[0m [bold]text[/bold] \u202etxet",
            thinking="Hm.",
            usage=Usage(input_tokens=1204, output_tokens=8),
        ),
    )
    async with Runtime(db) as runtime:
        session = await runtime.session(Agent("Burn.", model=model, tools=[burn]), title="A \x07bell")
        await session.run("Go.")


@pytest.mark.parametrize("options", [[], ["--full"]])
async def test_a_timeline_tells_retries_tokens_and_failures_and_lets_nothing_reach_the_terminal(
    cli: Cli, options: list[str]
) -> None:
    await tell_much(cli.db)
    text = _shown(cli, options)
    assert "model failed attempt 1: overloaded: try later; it was to be tried again" in " ".join(text.split())
    assert "attempt 2" in text
    assert "1,204 tokens in, 8 out" in text
    assert "error · " in text
    assert "too hot" in text
    assert "thinking: Hm." in text
    assert "[bold]text[/bold]" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def _shown(cli: Cli, options: list[str]) -> str:
    code, out, err = finished(cli.start("show", *options))
    assert code == 0, err
    return out


def test_a_timeline_as_json_has_every_turn_with_its_entries(cli: Cli, place: Path) -> None:
    cli.ok("run", *ECHO, "--dir", str(place), 'call read_file {"path": "note.txt"}')
    cli.ok("run", "--session", "last", "bye")
    line = cli.json("show")
    assert line["metadata"] == {"holdfast.dir": str(place), "holdfast.write": "no"}
    first, second = line["turns"]
    assert [entry["type"] for entry in first["entries"]] == ["message", "message", "call", "message"]
    called = first["entries"][2]
    assert (called["name"], called["status"], called["effect"]) == ("read_file", "ok", "pure")
    assert called["result"] == "first line\nsecond line"
    assert (second["status"], second["stop"], second["replies"]) == ("completed", "end_turn", 1)


def test_full_shows_whole_arguments_and_results(cli: Cli, place: Path) -> None:
    (place / "note.txt").write_text("start " + "x" * 3_000 + " end")
    cli.ok("run", *ECHO, "--dir", str(place), 'call read_file {"path": "note.txt"}')
    assert "x end" not in cli.ok("show").replace("\n", "")
    assert "x end" in cli.ok("show", "--full").replace("\n", "")


def test_events_are_numbered_from_1_and_can_be_cut(cli: Cli) -> None:
    cli.ok("run", *ECHO, "hi")
    every = cli.lines("events")
    assert [event["sequence"] for event in every] == list(range(1, len(every) + 1))
    assert cli.lines("events", "--after", "2") == every[2:]
    assert cli.lines("events", "-n", "2") == every[-2:]
    assert cli.lines("events", "-n", "99") == every
    assert "turn.completed" in cli.ok("events", "-n", "1")


def test_following_shows_what_another_process_records(cli: Cli) -> None:
    cli.ok("run", *ECHO, "hi")
    process = cli.start("events", "-f", "--json")
    until(process, '"turn.completed"')
    cli.ok("run", "--session", "last", "again")
    assert "again" in until(process, '"input.message"')
    until(process, '"turn.completed"')
    process.send_signal(signal.SIGINT)
    code, _, err = finished(process)
    assert (code, err) == (0, "")


def test_looking_works_on_a_file_that_may_only_be_read(cli: Cli) -> None:
    cli.ok("run", *ECHO, "hi")
    cli.db.chmod(0o400)
    for command in ("sessions", "show", "events", "files"):
        assert cli(command).exit_code == 0, command


def test_a_summary_is_told_with_what_it_cost(cli: Cli) -> None:
    agent = Agent(model=Sim.always(say("so", usage=Usage(input_tokens=10, output_tokens=2))))

    async def talk() -> None:
        async with Runtime(cli.db) as runtime:
            session = await runtime.session(agent)
            await session.compact(by="ana")
            await session.run("hello")
            await session.run("word " * 500)
            await session.compact(by="ana")
            await session.run("and now?")

    asyncio.run(talk())
    shown = cli.json("show")
    said = [it["text"] for turn in shown["turns"] for it in turn["entries"] if it.get("what") == "compacted"]
    assert said == [
        "no summary, attempt 1: too_large: the latest exchange is nearly all there is: nothing can be summarised",
        "the first 3 messages are summarised for the model (asked)",
    ]
    assert [it["text"] for it in shown["before"]] == ["ana wants a summary before the next model call"] * 2
    assert shown["turns"][-1]["usage"]["input_tokens"] == 20
    assert shown["usage"]["input_tokens"] == 40
