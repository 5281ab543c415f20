"""The recordings of agent-sdk-core, and sessions of ours that are exported to be compared with them."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from holdfast import Agent, Event, Runtime, Tool
from holdfast.compat.agent_sdk import Trace, export_package, export_session
from holdfast.compat.agent_sdk.envelope import Moment, Published, RunContext, event
from holdfast.compat.agent_sdk.refs import destination, source
from holdfast.drivers.sim import Sim, Step
from holdfast.errors import UnknownBlob
from holdfast.events import TurnStarted
from tests.conftest import shared_fixtures

INSTANT = "2026-05-24T12:00:00Z"
SECRET = "raw-sentinel-4111"
TITLED = {
    "type": "object",
    "required": ["title"],
    "properties": {"title": {"type": "string"}},
    "additionalProperties": False,
}


def files(folder: str) -> list[str]:
    """The recordings in a folder, by name; each is a test."""
    return sorted(path.stem for path in (shared_fixtures() / "agent-sdk-core" / folder).glob("*.json"))


def text_of(folder: str, name: str) -> str:
    """A recording as it was written."""
    path: Path = shared_fixtures() / "agent-sdk-core" / folder / f"{name}.json"
    return path.read_text(encoding="utf-8")


def read(folder: str, name: str) -> Any:
    """What a recording says."""
    return json.loads(text_of(folder, name))


async def traced(
    *steps: Step | str,
    tools: tuple[Tool, ...] = (),
    output: Any = None,
    said: str = "hello sdk",
    **options: Any,
) -> Trace:
    """One turn of ours, exported."""
    async with Runtime() as runtime:
        agent = Agent("You test.", name="contract", model=Sim.script(*steps), tools=tools)
        session = await runtime.session(agent)
        typed = {} if output is None else {"output": output, **options}
        await session.run(said, **typed)
        return await exported(runtime, await session.events())


async def exported(runtime: Runtime, events: list[Event]) -> Trace:
    """The export of these events, with the packages of what they ran under, as far as the store knows it."""
    packages = {}
    for fact in [item.data for item in events]:
        if isinstance(fact, TurnStarted):
            with suppress(UnknownBlob):
                document = await runtime.store.get_blob(fact.manifest)
                packages[fact.manifest] = export_package(document, "contract")
    return export_session(events, packages)


def run_of(name: str, fingerprint: str = "sha256:event-contract-package") -> RunContext:
    """A run as the recordings know it: `event.contract`, `privacy`, …"""
    family = name.partition(".")[0]
    return RunContext(
        run_id=f"run.{name}",
        agent_id=f"agent.{name}",
        turn_id=f"turn.{name}",
        trace_id=f"trace.{name}",
        source=source(f"source.sdk.{family}", "sdk"),
        fingerprint=fingerprint,
    )


def event_of(run: RunContext, number: int, kind: str, *, names: str = "event", **options: Any) -> Published:
    """The `number`-th event of a run."""
    moment = Moment(
        event_id=f"{names}.{number}", span_id=f"span.{number}", event_seq=number, timestamp=INSTANT
    )
    return event(run, moment, kind, **options)


TOOL_DESTINATION = destination("destination.tool.fake", "tool")
