"""`holdfast inspect`."""

from pathlib import Path

from holdfast import Agent, Runtime, tool
from holdfast.drivers.sim import Sim, say
from tests.cli.kit import ECHO, Cli


def test_the_next_request_is_shown_and_nothing_is_recorded(cli: Cli, place: Path) -> None:
    cli.ok("run", *ECHO, "--dir", str(place), "-i", "Be brief.", "hi")
    before = cli.lines("events")
    text = cli.ok("inspect", "last", "and now?")
    assert "sim/echo" in text
    assert "read_file, list_files, grep_files" in text
    assert "  Be brief." in text
    assert "and now?" in text
    body = cli.json("inspect", "last", "and now?")
    assert [message["content"][0]["text"] for message in body["messages"]][-1] == "and now?"
    assert cli.lines("events") == before


def test_the_body_of_a_real_provider_needs_no_key(cli: Cli) -> None:
    assert cli("run", "--model", "openai-chat/gpt-5-mini", "hi").exit_code == 1
    body = cli.json("inspect")
    assert body["model"] == "gpt-5-mini"
    assert body["messages"][-1] == {"role": "user", "content": "hi"}


async def of_a_program(db: Path) -> None:
    @tool
    async def strike() -> None:
        """Strike."""

    async with Runtime(db) as runtime:
        await (await runtime.session(Agent("Go.", model=Sim.always(say("Hi.")), tools=[strike]))).run(
            "Hello."
        )


async def test_what_only_a_program_can_give_is_named(cli: Cli) -> None:
    await of_a_program(cli.db)
    code, _, err = _inspect(cli)
    assert code == 2
    assert "was made with tool strike, driver sim" in err
    cli.env["HOLDFAST_MODEL"] = "sim/echo"
    code, out, err = _inspect(cli)
    assert code == 0
    assert "without tool strike, driver sim" in err
    assert "sim/echo" in out


def _inspect(cli: Cli) -> tuple[int, str, str]:
    from tests.cli.kit import finished

    return finished(cli.start("inspect"))
