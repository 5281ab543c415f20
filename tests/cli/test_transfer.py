"""`holdfast export`, `import` and `backup`."""

import json
from pathlib import Path

import pytest

from tests.cli.kit import ECHO, Cli


@pytest.fixture
def archive(cli: Cli, tmp_path: Path) -> Path:
    cli.ok("run", *ECHO, "hello")
    cli.ok("export", "last", "-o", str(tmp_path / "kept.jsonl"))
    return tmp_path / "kept.jsonl"


def test_a_session_moves_to_another_database_as_it_was(cli: Cli, archive: Path, tmp_path: Path) -> None:
    other = Cli(tmp_path / "other.db")
    session_id = other.ok("import", str(archive)).strip()
    assert other.ok("events", session_id, "--json") == cli.ok("events", "--json")
    assert other.ok("export", "last") == archive.read_text()
    assert other.ok("run", "--session", "last", *ECHO, "and again").endswith("and again\n")


def test_the_file_is_private_and_holds_lines_of_json(archive: Path) -> None:
    assert archive.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in archive.read_text().splitlines()]
    assert lines[0]["format"] == "holdfast.session"
    assert [line.get("sequence") for line in lines[1:6]] == [1, 2, 3, 4, 5]
    assert list(archive.parent.glob("*.partial")) == []


def test_a_file_that_exists_is_not_written_over(cli: Cli, archive: Path) -> None:
    before = archive.read_bytes()
    result = cli("export", "last", "-o", str(archive))
    assert (result.exit_code, archive.read_bytes()) == (2, before)
    assert cli("export", "last", "-o", str(archive.parent / "no" / "where")).exit_code == 2


def test_a_broken_archive_and_a_session_that_is_there_are_refused(cli: Cli, archive: Path) -> None:
    again = cli("import", str(archive))
    assert (again.exit_code, "already" in again.stderr) == (2, True)
    cut = archive.with_name("cut.jsonl")
    cut.write_bytes(archive.read_bytes()[:-10])
    other = Cli(archive.with_name("other.db"))
    result = other("import", str(cut))
    assert (result.exit_code, "truncated" in result.stderr) == (2, True)
    assert other.ok("sessions", "--json").strip() in ("[]", "")


def test_a_backup_is_a_database_with_the_same_sessions(cli: Cli, tmp_path: Path) -> None:
    cli.ok("run", *ECHO, "hello")
    copy = Cli(tmp_path / "copy.db")
    cli.ok("backup", str(cli.db), str(copy.db))
    assert copy.ok("events", "--json") == cli.ok("events", "--json")
    assert "0 problems" in cli.ok("fsck", str(copy.db))
    before = copy.db.read_bytes()
    assert cli("backup", str(cli.db), str(copy.db)).exit_code == 2
    assert copy.db.read_bytes() == before
