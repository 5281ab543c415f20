"""`holdfast agents`."""

from pathlib import Path

from tests.cli.kit import Cli


def helper(tmp_path: Path) -> str:
    """An agent file."""
    (tmp_path / "helper.md").write_text("---\nmodel: sim/echo\n---\nBe brief.")
    return str(tmp_path / "helper.md")


def test_agents_are_listed_archived_and_restored(cli: Cli, tmp_path: Path) -> None:
    file = helper(tmp_path)
    cli.ok("run", "--agent", file, "hi")
    (known,) = cli.json("agents")
    assert (known["kind"], known["name"], known["status"], known["sessions"]) == (
        "agent",
        "helper",
        "active",
        1,
    )
    (known,) = cli.json("agents", "--archive", "helper", "--reason", "moved")
    assert (known["status"], known["reason"]) == ("archived", "moved")
    assert known["by"]
    for arguments in (("run", "--agent", file, "hi"), ("run", "--session", "last", "hi")):
        refused = cli(*arguments)
        assert refused.exit_code == 2
        assert "agent 'helper' was archived" in refused.output
        assert "moved" in refused.output
    assert "archived" in cli.ok("agents")
    cli.ok("agents", "--restore", "helper")
    cli.ok("run", "--session", "last", "hi")


def test_what_is_deleted_stays_so(cli: Cli, tmp_path: Path) -> None:
    cli.ok("run", "--agent", helper(tmp_path), "hi")
    cli.ok("agents", "--delete", "house", "--harness")
    assert [it["kind"] for it in cli.json("agents")] == ["agent", "harness"]
    refused = cli("agents", "--restore", "house", "--harness")
    assert refused.exit_code == 2
    assert "for good" in refused.output
    assert cli("agents", "--restore", "a", "--delete", "a").exit_code == 2
