"""`holdfast explain` and `diff`."""

import asyncio
from pathlib import Path

import msgspec

from holdfast import Agent, Limits, Runtime, tool
from holdfast.drivers.sim import Sim, call, say
from tests.cli.kit import ECHO, Cli

BRIEF = """---
model: sim/other
limits:
  max_iterations: 7
---
Be brief and kind to everybody who asks you something."""


def helper(tmp_path: Path, text: str = BRIEF, name: str = "helper.md") -> str:
    """An agent file."""
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_explain_names_the_layers_of_each_setting_of_a_turn(cli: Cli, tmp_path: Path) -> None:
    cli.ok("run", "--agent", helper(tmp_path), *ECHO, "hi")
    told = cli.json("explain")
    origins = {it["field"]: (it["value"], it["layers"]) for it in told["fields"]}
    assert origins["model"] == ("sim/echo", ["session"])
    assert origins["limits.max_iterations"] == ("7", ["agent helper"])
    assert origins["limits.tool_timeout"][1] == ["default"]
    (started,) = [it for it in cli.lines("events") if it["type"] == "turn.started"]
    assert told["digest"] == started["data"]["manifest"]
    assert told["turn"] == started["context"]["turn_id"]
    text = cli.ok("explain")
    assert "agent helper" in text
    assert told["digest"] in text


def test_explain_of_an_agent_file_needs_no_database(cli: Cli, tmp_path: Path) -> None:
    file = helper(tmp_path, BRIEF.replace("sim/other", "sim/echo"))
    told = cli.json("explain", file)
    assert not cli.db.exists()
    fields = {it["field"]: it["layers"] for it in told["fields"]}
    assert fields["instructions"] == ["agent helper"]
    assert told["digest"].startswith("sha256:")
    cli.ok("run", "--agent", file, "hi")
    assert cli.json("explain")["digest"] == told["digest"], "what it would run under is what it ran under"
    assert cli("explain", file, "turn").exit_code == 2


def test_explain_of_an_earlier_turn_says_what_that_one_ran_under(cli: Cli, tmp_path: Path) -> None:
    cli.ok("run", "--agent", helper(tmp_path, BRIEF.replace("sim/other", "sim/echo")), "hi")
    changed = helper(tmp_path, BRIEF.replace("sim/other", "sim/echo").replace("brief", "exact"))
    cli.ok("run", "--session", "last", "--agent", changed, "and now?")
    turns = [it["context"]["turn_id"] for it in cli.lines("events") if it["type"] == "turn.started"]
    first, last = (
        {it["field"]: it["value"] for it in cli.json("explain", "last", turn)["fields"]} for turn in turns
    )
    assert first["instructions"].startswith("Be brief")
    assert last["instructions"].startswith("Be exact")
    for place in (turns[0], f"last/{turns[0]}"):
        result = cli("diff", place, "last")
        assert result.exit_code == 1
        assert "instructions: Be [-brief-] {+exact+} and kind to … asks you something." in result.output
    assert cli("explain", "last", "turn_zz").exit_code == 2


async def of_a_program(db: Path, limits: Limits | None = None) -> str:
    """A session whose tool is a function of its program; the turn's digest."""

    @tool(effect="once")
    async def strike(times: int = 1) -> str:
        """Strike."""
        return "struck"

    class Receipt(msgspec.Struct):
        """A receipt."""

        cents: int

    agent = Agent(
        "Go.", model=Sim.storyboard(call("strike"), say('{"cents": 1}')), tools=[strike], limits=limits
    )
    async with Runtime(db) as runtime:
        result = await (await runtime.session(agent)).run("Hello.", output=Receipt)
        assert result.status == "completed"
        (head,) = await runtime.sessions(limit=1)
        return str((await runtime.store.read(head.session_id))[2].data.manifest)  # type: ignore[attr-defined]


def test_a_turn_of_a_program_is_explained_without_the_program(cli: Cli) -> None:
    digest = asyncio.run(of_a_program(cli.db))
    told = cli.json("explain")
    assert told["digest"] == digest
    fields = {it["field"]: it["layers"] for it in told["fields"]}
    assert fields["tools.strike"] == ["agent agent"]
    assert fields["output"] == ["turn"]


def test_diff_says_what_changed_by_field_and_ends_as_diff_does(cli: Cli) -> None:
    one = asyncio.run(of_a_program(cli.db))
    other = asyncio.run(of_a_program(cli.db, Limits(max_iterations=3)))
    assert cli("diff", one, one).exit_code == 0
    assert "no difference" in cli.ok("diff", one, one)
    result = cli("diff", one, other)
    assert result.exit_code == 1
    assert "-> 3" in result.output
    told = msgspec.json.decode(cli("diff", one, "last", "--json").stdout)
    assert [it["field"] for it in told["changes"]] == ["limits.max_iterations"]
    assert (told["before"], told["after"]) == (one, other)


def test_diff_of_two_agent_files(cli: Cli, tmp_path: Path) -> None:
    one = helper(tmp_path, "---\nmodel: sim/echo\n---\nBe brief.")
    other = helper(tmp_path, "---\nmodel: sim/echo\ncapabilities: [files]\n---\nBe exact.", "other.md")
    result = cli("diff", one, other)
    assert result.exit_code == 1
    assert "+ tools.read_file: added" in result.output
    assert "+ capabilities.files: added" in result.output


def test_what_diff_cannot_find_is_said_and_is_no_difference(cli: Cli, tmp_path: Path) -> None:
    file = helper(tmp_path, "---\nmodel: sim/echo\n---\nBe brief.")
    cli.ok("run", "--agent", file, "hi")
    for wrong in ("sha256:" + "0" * 64, "turn_zz", "nobody", "last/turn_zz"):
        assert cli("diff", wrong, file).exit_code == 2, wrong
