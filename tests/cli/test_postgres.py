"""`--db` as the URL of a Postgres database."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest

from tests.cli.kit import ECHO, UNSET, Cli
from tests.cli.workers import CREW

PASSWORD = "s3cret"


async def tell(url: str, *statements: str) -> None:
    import asyncpg  # the extra `postgres`, which only these tests need

    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def url(postgres_url: str) -> Iterator[str]:
    """A database of its own, with a password in its URL."""
    name = f"test_{uuid4().hex}"
    asyncio.run(tell(postgres_url, f"CREATE DATABASE {name}"))
    parts = urlsplit(postgres_url)
    user, _, where = parts.netloc.rpartition("@")
    user = user if ":" in user else f"{user}:{PASSWORD}"
    yield urlunsplit(parts._replace(netloc=f"{user}@{where}", path=f"/{name}"))
    asyncio.run(tell(postgres_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def cli(tmp_path: Path, url: str) -> Cli:
    cli = Cli(tmp_path)
    cli.env = {**UNSET, "HOLDFAST_DB": url}
    return cli


def test_every_command_takes_a_url(cli: Cli, url: str, tmp_path: Path, place: Path) -> None:
    assert "You said: hi" in cli.ok("run", *ECHO, "hi")
    assert "You said: more" in cli.ok("run", "--session", "last", "more")
    assert "You said: and more" in cli.ok("chat", "--session", "last", stdin="and more\n")
    assert "You said: steered" in cli.ok("steer", "last", "steered")
    (listed,) = cli.json("sessions")
    assert (listed["title"], listed["status"], listed["events"]) == ("hi", "completed", 17)
    assert len(cli.json("show")["turns"]) == 4
    assert len(cli.lines("events", "--after", "2")) == 15
    assert cli.json("inspect")["model"] == "echo"
    assert cli.json("explain")
    assert cli.ok("files") == ""
    write = 'call write_file {"path": "a.txt", "content": "a"}'
    assert cli("run", *ECHO, "--dir", str(place), "--write", "--ask", write).exit_code == 3
    assert cli("approve", "last").exit_code == 0
    assert (place / "a.txt").read_text() == "a"
    assert cli("cancel", "last").exit_code == 2
    assert cli.ok("recover", *CREW) == ""
    cli.ok("export", listed["id"], "-o", str(tmp_path / "session.jsonl"))
    other = Cli(tmp_path / "other.db")
    assert other.ok("import", str(tmp_path / "session.jsonl")).strip() == listed["id"]
    assert other.json("show") == cli.json("show", listed["id"])
    assert cli("--debug", "doctor").exit_code == 0


def test_fsck_reads_a_postgres_database_through_the_contract_of_stores(cli: Cli, url: str) -> None:
    for text in ("one", "two"):
        cli.ok("run", *ECHO, text)
    listed = cli.json("sessions")
    sound = cli.json("fsck")
    assert (sound["sessions"], sound["events"], sound["problems"], sound["notes"]) == (2, 10, [], [])
    asyncio.run(tell(url, "UPDATE holdfast.blobs SET data = 'other'"))
    changed = cli("fsck", url, "--json")
    assert changed.exit_code == 1
    assert '"kind":"blob"' in changed.stdout
    asyncio.run(tell(url, "DELETE FROM holdfast.events WHERE sequence = 3"))
    missing = cli("fsck", "--json")
    assert missing.exit_code == 1
    broken = [it["where"] for it in json.loads(missing.stdout)["problems"] if it["kind"] != "blob"]
    assert sorted(broken) == sorted(f"{it['id']}:3" for it in listed)


def test_backup_of_postgres_says_what_to_use_instead(cli: Cli, url: str, tmp_path: Path) -> None:
    result = cli("backup", url, str(tmp_path / "copy.db"))
    assert result.exit_code == 2
    assert "pg_dump" in result.stderr
    assert PASSWORD not in result.output


def test_a_password_is_never_shown(cli: Cli, url: str) -> None:
    cli.ok("run", *ECHO, "hi")
    port = f":{urlsplit(url).port}/"
    everything = (["doctor"], ["fsck"], ["fsck", "--json"], ["sessions"], ["show", "nobody"], ["recover"])
    for db, commands in (
        (url, everything),
        (url.replace(port, ":1/"), (["sessions"],)),
        (f"mysql://u:{PASSWORD}@host/x", (["sessions"], ["doctor"], ["fsck"])),
        (f"postgresql://u:{PASSWORD}@@host:x/y", (["sessions"], ["doctor"], ["fsck"])),
    ):
        cli.env["HOLDFAST_DB"] = db
        for command in commands:
            result = cli(*command)
            said = result.output + repr(result.exception)
            assert PASSWORD not in said, (command, said)
            assert "Traceback" not in said
    cli.env["HOLDFAST_DB"] = f"mysql://u:{PASSWORD}@host/x"
    other = cli("sessions")
    assert other.exit_code == 2
    assert "postgresql://" in other.stderr
