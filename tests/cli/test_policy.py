"""`holdfast policy test`: rules tried on what a session did, and rules in agent files."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from holdfast import Agent, Config, ConfigError, Rule, Runtime, Taint, tool
from holdfast.cli.agentfile import read_agent
from holdfast.cli.rulefile import read_rules
from holdfast.drivers.sim import Sim, calls, say
from tests.cli.kit import Cli

RULES = """\
[[rules]]
id = "ours"
decision = "allow"
name = "send_mail"
destinations = ["*@example.com"]

[[rules]]
id = "others"
decision = "deny"
name = "send_mail"
reason = "mail goes to example.com only"

[[rules]]
id = "unused"
decision = "deny"
name = "shell"
"""


@tool(effect="idempotent")
async def send_mail(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


async def recorded(db: Path, **config: Any) -> str:
    """A session that mails two people."""
    wanted = [("send_mail", {"to": to}) for to in ("bob@example.com", "eve@evil.test")]
    model = Sim.storyboard(calls(*wanted), say("Done."))
    async with Runtime(db) as runtime:
        session = await runtime.session(
            Agent("You mail.", model=model, tools=[send_mail], config=Config(**config))
        )
        await session.run("Go.")
        return session.id


def test_what_rules_would_have_said_is_shown_beside_what_was_decided(cli: Cli, tmp_path: Path) -> None:
    asyncio.run(recorded(cli.db))
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    before = cli.lines("events")
    result = cli("policy", "test", str(rules))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].split("  ")[0] == "call"
    assert "bob@example.com" in lines[1]
    assert "allow  " in lines[1]
    assert "ours" in lines[1]
    assert "deny  !" in lines[2]
    assert "others" in lines[2]
    assert lines[3] == "2 calls, 1 decided otherwise"
    assert lines[4] == "decided nothing here: unused"
    assert cli.lines("events") == before


def test_a_file_is_found_by_a_rule_however_its_path_is_written(cli: Cli, tmp_path: Path) -> None:
    async def read() -> None:
        model = Sim.storyboard(calls(("read_file", {"path": "keys/a"})), say("Done."))
        async with Runtime(cli.db) as runtime:
            session = await runtime.session(Agent(model=model, capabilities=["files"]))
            await session.run("Go.")

    asyncio.run(read())
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps([{"id": "no", "decision": "deny", "destinations": ["/workspace/keys/*"]}]))
    result = cli("policy", "test", str(rules))
    assert (result.exit_code, "deny  !" in result.stdout.splitlines()[1]) == (1, True)


def test_the_same_rules_agree_with_the_session_that_ran_under_them(cli: Cli, tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text(
        json.dumps(
            [
                {"id": "ours", "decision": "allow", "name": "send_mail", "destinations": ["*@example.com"]},
                {"id": "others", "decision": "deny", "name": "send_mail"},
            ]
        )
    )
    asyncio.run(recorded(cli.db, rules=read_rules(rules).rules))
    result = cli("policy", "test", str(rules), "--json")
    assert result.exit_code == 0
    ours, others = [json.loads(line) for line in result.stdout.splitlines()]
    assert (ours["decision"], ours["really"], ours["status"], ours["differs"]) == (
        "allow",
        "allow",
        "ok",
        False,
    )
    assert (others["decision"], others["really"], others["by"], others["status"]) == (
        "deny",
        "deny",
        "others",
        "denied",
    )
    assert others["rule"] == "others"


def test_what_was_asked_about_and_answered_is_told(cli: Cli, tmp_path: Path) -> None:
    ask = Rule(id="sure", decision="ask", name="send_mail", destinations=("evil.test", "*@evil.test"))
    session_id = asyncio.run(recorded(cli.db, rules=(ask,)))
    asked = next(it["data"] for it in cli.lines("events") if it["type"] == "ask.opened")

    async def answer() -> None:
        async with Runtime(cli.db) as runtime:
            session = await runtime.open(session_id, drive=False)
            await session.approve(asked["ask_id"], by="ana")

    asyncio.run(answer())
    rules = tmp_path / "none.toml"
    rules.write_text("")
    result = cli("policy", "test", str(rules), session_id, "--json")
    assert result.exit_code == 1
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [it["really"] for it in found] == ["allow", "ask"]
    assert found[1]["by"] == "approved by ana"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[rules]]\nid = 'a'\n", "Object missing required field `decision`"),
        ("[[rules]]\nid = 'a'\ndecision = 'forbid'\n", "(rule 'a')"),
        ("[[rules]]\nid = 'a'\ndecision = 'deny'\nnam = 'x'\n", "unknown field `nam`"),
        ("[[rules]]\nid = 'a'\ndecision = 'deny'\nname = ''\n", "rule 'a' can never match"),
        ("[[rules]]\nid = 'a'\ndecision = 'deny'\narguments = {x = 're:('}\n", "rule 'a' can never match"),
        ("[[rules]\n", "is not TOML"),
    ],
)
def test_rules_that_cannot_be_read_are_named(cli: Cli, tmp_path: Path, text: str, problem: str) -> None:
    asyncio.run(recorded(cli.db))
    rules = tmp_path / "rules.toml"
    rules.write_text(text)
    result = cli("policy", "test", str(rules))
    assert result.exit_code == 2
    assert problem in result.stderr


def test_an_unknown_session_is_an_error(cli: Cli, tmp_path: Path) -> None:
    asyncio.run(recorded(cli.db))
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    assert cli("policy", "test", str(rules), "session_nobody").exit_code == 2


def test_an_agent_file_has_rules_and_a_taint_rule(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES + '\n[taint]\ndecision = "deny"\n')
    named = tmp_path / "named.md"
    named.write_text("---\nrules: rules.toml\n---\nBe brief.")
    config = read_agent(named).layers[0].config
    assert [rule.id for rule in config.rules] == ["ours", "others", "unused"]
    assert config.taint == Taint(decision="deny")
    whole = tmp_path / "whole.md"
    whole.write_text(f'+++\n{RULES}\n[taint.labels]\n"fetch_*" = ["untrusted", "outbound"]\n+++\nBe brief.')
    config = read_agent(whole).layers[0].config
    assert config.rules[0].destinations == ("*@example.com",)
    assert config.taint == Taint(labels={"fetch_*": ("untrusted", "outbound")})


def test_a_rule_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    agent = tmp_path / "a.md"
    agent.write_text("---\nrules: nowhere.toml\n---\nBe brief.")
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read"):
        read_agent(agent)
