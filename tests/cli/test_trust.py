"""`holdfast trust`: hooks that a directory brings are shown, trusted, listed and revoked; `run` says where they are."""

import json
import sys
from pathlib import Path

import pytest

from tests.cli.kit import ECHO, Cli

SCRIPT = """
import json, sys
told = json.loads(sys.stdin.readline())
print(json.dumps({"nonce": told["nonce"], "decision": "modify", "message": told["message"]["text"].upper()}))
"""
HOOKS = f"""
[[hooks]]
id = "shout"
point = "before_turn"
command = ["{sys.executable}", "-I", "shout.py"]
environment = {{ TOKEN = "canary-0123456789" }}
"""


@pytest.fixture
def work(cli: Cli, place: Path, tmp_path: Path) -> Path:
    """A directory with a hook of its own."""
    cli.env["XDG_DATA_HOME"] = str(tmp_path / "data")
    (place / ".holdfast").mkdir()
    (place / ".holdfast" / "hooks.toml").write_text(HOOKS)
    (place / "shout.py").write_text(SCRIPT)
    return place


def test_run_says_that_hooks_were_found_and_how_to_trust_them(cli: Cli, work: Path) -> None:
    result = cli("run", *ECHO, "--dir", str(work), "hello")
    assert (result.exit_code, result.stdout) == (0, "[SIMULATED MODEL] You said: hello\n")
    assert f"{work} brings 1 hook of its own, not trusted and not run" in result.stderr
    assert f"holdfast trust {work}" in result.stderr


def test_trusted_hooks_run_also_when_the_session_is_continued(cli: Cli, work: Path) -> None:
    told = cli.ok("trust", str(work))
    assert "shout" in told
    assert told.endswith(f"{work}: trusted\n")
    assert "You said: HELLO" in cli.ok("run", *ECHO, "--dir", str(work), "hello")
    assert "You said: AGAIN" in cli.ok("run", "--session", "last", "again")
    assert "workspace_hooks:shout" in cli.ok("explain")


def test_hooks_beside_an_agent_file_are_found(cli: Cli, work: Path) -> None:
    (work / "agent.md").write_text("You help.")
    assert "brings 1 hook" in cli("run", *ECHO, "--agent", str(work / "agent.md"), "hello").stderr
    cli.ok("trust", str(work))
    assert "You said: HELLO" in cli.ok("run", *ECHO, "--agent", str(work / "agent.md"), "hello")


def test_after_a_change_run_refuses_and_says_what_to_do(cli: Cli, work: Path) -> None:
    cli.ok("trust", str(work))
    (work / "shout.py").write_text("import os")
    result = cli("run", *ECHO, "--dir", str(work), "hello")
    assert result.exit_code == 2
    assert "not those that were trusted" in result.stderr
    assert f"holdfast trust --revoke {work}" in result.stderr
    cli.ok("trust", "--revoke", str(work))
    assert "You said: hello" in cli.ok("run", *ECHO, "--dir", str(work), "hello")


def test_what_would_be_trusted_can_be_looked_at_and_named(cli: Cli, work: Path) -> None:
    looked = cli.json("trust", "--look", str(work))
    assert (looked["standing"], looked["files"]) == ("new", [".holdfast/hooks.toml", "shout.py"])
    assert looked["hooks"][0]["environment"] == ["TOKEN"]
    assert "canary" not in json.dumps(looked) + cli.ok("trust", "--look", str(work))
    assert cli.ok("trust", "--list") == ""
    (work / "shout.py").write_text("import os")
    result = cli("trust", "--digest", looked["digest"], str(work))
    assert result.exit_code == 2
    assert "look at them again" in result.stderr
    assert cli.ok("trust", "--list") == ""


def test_what_is_trusted_is_listed(cli: Cli, work: Path) -> None:
    trusted = cli.json("trust", str(work))
    assert trusted["standing"] == "trusted"
    assert cli.json("trust", "--list")["path"] == str(work)
    assert trusted["digest"] in cli.ok("trust", "--list")
    assert cli.json("trust", "--revoke", str(work))["standing"] == "revoked"
    assert cli.json("trust", "--revoke", str(work))["standing"] == "none"


def test_a_directory_without_hooks_and_flags_that_contradict_each_other_are_errors(
    cli: Cli, tmp_path: Path
) -> None:
    cli.env["XDG_DATA_HOME"] = str(tmp_path / "data")
    result = cli("trust", str(tmp_path))
    assert (result.exit_code, "brings no hooks" in result.stderr) == (2, True)
    assert cli("trust", "--list", "--revoke").exit_code == 2


def test_hooks_that_cannot_be_understood_are_left_out_with_a_word(cli: Cli, work: Path) -> None:
    (work / ".holdfast" / "hooks.toml").write_text("[[\x1b[31m")
    result = cli("run", *ECHO, "--dir", str(work), "hello")
    assert result.exit_code == 0
    assert "are not run" in result.stderr
    assert "\x1b[31m" not in result.stderr
