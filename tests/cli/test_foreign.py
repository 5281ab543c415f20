"""`holdfast export --format agent-sdk`."""

import json
from pathlib import Path

import pytest

from holdfast.compat.agent_sdk import fingerprint
from tests.cli.kit import ECHO, Cli


@pytest.fixture
def said(cli: Cli) -> Cli:
    cli.ok("run", *ECHO, "a canary in the mine")
    cli.ok("run", *ECHO, "--session", "last", "and another")
    return cli


def test_the_lines_are_a_header_the_packages_the_records_and_the_events(said: Cli) -> None:
    header, *lines = [
        json.loads(line) for line in said.ok("export", "last", "--format", "agent-sdk").splitlines()
    ]
    assert (header["format"], header["version"]) == ("agent-sdk", 1)
    assert [header[name] for name in ("packages", "records", "events")] == [1, 20, 16]
    assert [sum(name in line for line in lines) for name in ("package", "record", "event")] == [1, 20, 16]
    assert lines[0]["fingerprint"] == fingerprint(lines[0]["package"])
    named = {line["record"]["runtime_package_fingerprint"] for line in lines if "record" in line}
    assert named == {lines[0]["fingerprint"]}
    assert [line["record"]["journal_seq"] for line in lines if "record" in line] == [*range(1, 21)]


def test_nothing_that_was_said_is_in_it(said: Cli) -> None:
    for options in ((), ("--json",)):
        written = said.ok("export", "last", "--format", "agent-sdk", *options)
        assert "canary" not in written
        assert "SIMULATED" not in written


def test_one_object_holds_the_same(said: Cli) -> None:
    whole = json.loads(said.ok("export", "last", "--format", "agent-sdk", "--json"))
    lines = [json.loads(line) for line in said.ok("export", "last", "--format", "agent-sdk").splitlines()]
    assert [{"record": item} for item in whole["records"]] == [line for line in lines if "record" in line]
    assert [{"event": item} for item in whole["events"]] == [line for line in lines if "event" in line]
    assert whole["packages"] == [lines[1]]


def test_it_goes_into_a_file_as_an_archive_does(said: Cli, tmp_path: Path) -> None:
    file = tmp_path / "theirs.jsonl"
    said.ok("export", "last", "--format", "agent-sdk", "-o", str(file))
    assert file.read_text() == said.ok("export", "last", "--format", "agent-sdk")
    assert file.stat().st_mode & 0o777 == 0o600
    result = said("import", str(file))
    assert (result.exit_code, "archive" in result.stderr) == (2, True)


def test_an_archive_is_never_one_object(said: Cli) -> None:
    result = said("export", "last", "--json")
    assert (result.exit_code, "--format agent-sdk" in result.stderr) == (2, True)
    assert said("export", "last", "--format", "other").exit_code == 2
    assert said("export", "nosuch", "--format", "agent-sdk").exit_code == 2
