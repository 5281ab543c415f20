"""`holdfast doctor`."""

import json
import sqlite3
from typing import Any

from holdfast.cli.doctor import CREDENTIALS
from holdfast.registry import DRIVERS, load
from tests.cli.kit import ECHO, Cli

CANARY = "sk-canary-0123456789-not-a-key"


def checks(cli: Cli, code: int) -> dict[str, Any]:
    result = cli("doctor", "--json")
    assert result.exit_code == code, result.output
    return {check["name"]: check for check in json.loads(result.stdout)}


def test_a_fresh_place_is_healthy_and_says_what_to_set_up(cli: Cli) -> None:
    found = checks(cli, 0)
    assert found["holdfast"]["status"] == found["sqlite"]["status"] == found["apsw"]["status"] == "ok"
    assert found["database"]["status"] == "note"
    assert "OPENAI_API_KEY" in found["provider openai-chat"]["advice"]
    assert "sim/echo" in found["HOLDFAST_MODEL"]["advice"]
    assert not cli.db.exists()


def test_a_database_is_counted_and_checked(cli: Cli) -> None:
    cli.ok("run", *ECHO, "hi")
    assert "1 session" in checks(cli, 0)["database"]["found"]
    assert "every event and blob as it was written" in cli.ok("doctor")


def test_credentials_are_named_and_never_shown(cli: Cli) -> None:
    for variables in CREDENTIALS.values():
        for variable in variables:
            cli.env[variable] = CANARY
    found = checks(cli, 0)
    for vendor, variables in CREDENTIALS.items():
        assert found[f"provider {vendor}"]["found"] == f"{variables[0]} is set"
    for command in (["doctor"], ["doctor", "--json"], ["--debug", "doctor"]):
        assert CANARY not in cli(*command).output


def test_every_variable_that_a_built_in_driver_reads_is_known() -> None:
    read = {vendor: load(entry).credentials for vendor, entry in DRIVERS.items()}
    assert read == CREDENTIALS


def test_any_of_a_vendors_variables_will_do(cli: Cli) -> None:
    for variable in CREDENTIALS["gemini"]:
        cli.env[variable] = ""
    found = checks(cli, 0)["provider gemini"]
    assert (found["status"], found["found"]) == ("note", "GEMINI_API_KEY and GOOGLE_API_KEY are not set")
    cli.env["GEMINI_API_KEY"] = " "  # the driver takes it for none, too
    cli.env["GOOGLE_API_KEY"] = CANARY
    found = checks(cli, 0)["provider gemini"]
    assert (found["status"], found["found"]) == ("ok", "GOOGLE_API_KEY is set")


def test_a_file_of_another_program_is_broken_and_left_alone(cli: Cli) -> None:
    other = sqlite3.connect(cli.db)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = cli.db.read_bytes()
    found = checks(cli, 1)["database"]
    assert (found["status"], "another program" in found["found"]) == ("bad", True)
    assert cli.db.read_bytes() == before


def test_a_damaged_database_is_broken(cli: Cli) -> None:
    cli.ok("run", *ECHO, "x" * 300_000)
    content = bytearray(cli.db.read_bytes())
    content[8_192:-4_096] = b"\xa5" * (len(content) - 12_288)
    cli.db.write_bytes(content)
    assert checks(cli, 1)["database"]["status"] == "bad"


def test_a_default_model_that_nobody_serves_is_broken(cli: Cli) -> None:
    cli.env["HOLDFAST_MODEL"] = "nobody/x"
    assert "openai-chat" in checks(cli, 1)["HOLDFAST_MODEL"]["advice"]
    cli.env["HOLDFAST_MODEL"] = "openai-chat/gpt-5-mini"
    assert checks(cli, 0)["HOLDFAST_MODEL"]["status"] == "ok"
