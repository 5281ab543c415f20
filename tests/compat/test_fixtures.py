"""Every recording of agent-sdk-core is a test: it is made again, by the rules, from the inputs its authors name."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from holdfast import Agent, Event, MemoryStore, Runtime, tool
from holdfast.compat.agent_sdk import (
    Candidate,
    OutputContract,
    canonical_snapshot,
    contract,
    contract_document,
    event_rows,
    export_events,
    fingerprint,
    journal_rows,
    judge,
    package,
    plain,
    read_package,
)
from holdfast.compat.agent_sdk.canonical import JsonObject, Wire, pretty
from holdfast.compat.agent_sdk.capabilities import SidecarRef, sidecar, tool_capability
from holdfast.compat.agent_sdk.content import ContentRef, capture, raw_context, resolve
from holdfast.compat.agent_sdk.contract import REPAIR
from holdfast.compat.agent_sdk.envelope import (
    ArchiveCursor,
    EventCursor,
    OverflowNotice,
    Published,
    RunContext,
    preserved,
)
from holdfast.compat.agent_sdk.filters import CompiledFilter, EventFilter, QueueBounds, include
from holdfast.compat.agent_sdk.ids import CLASSES, check_id
from holdfast.compat.agent_sdk.payloads import PendingEffect, Recovery
from holdfast.compat.agent_sdk.policy import CapturePolicy, missing
from holdfast.compat.agent_sdk.queue import read as read_bounded
from holdfast.compat.agent_sdk.records import Effect, Entry, JournalRecord, intent, record
from holdfast.compat.agent_sdk.refs import (
    CorrelationEntry,
    DestinationRef,
    EntityRef,
    PolicyRef,
    SourceRef,
    entity,
)
from holdfast.compat.agent_sdk.stream import Delta, LiteralRule
from holdfast.compat.agent_sdk.telemetry import Projection, SinkQueue
from holdfast.compat.agent_sdk.tools import EffectClass, RiskClass, registry, route
from holdfast.drivers.sim import Sim, call, say
from holdfast.store import digest_of
from tests.compat.recordings import (
    SECRET,
    TITLED,
    TOOL_DESTINATION,
    event_of,
    files,
    read,
    run_of,
    text_of,
    traced,
)

Made = dict[str, Callable[[], Any]]
"""For each recording what makes it again."""


async def check(folder: str, name: str, made: Made) -> None:
    assert name in made, (
        f"nothing makes {folder}/{name}.json again: teach the exporter, and this test, its rule"
    )
    result = made[name]()
    assert plain(await result if isinstance(result, Awaitable) else result) == read(folder, name)


# Packages


def contract_package() -> JsonObject:
    policy = PolicyRef(kind="approval", id="policy.approval.workspace_read")
    schema = SidecarRef(
        sidecar_id="sidecar.schema.workspace_read",
        kind="tool_schema",
        version="v1",
        content_hash="sha256:schema.v1",
    )
    default = {"kind": "runtime_package", "id": "policy.agent.default"}
    return package(
        package_id="package.contract",
        agent={
            "agent_id": "agent.contract",
            "name": "contract agent",
            "default_behavior_refs": [default],
        },
        provider_route={"route_id": "provider.fake", "model_id": "model.fake.p0"},
        capabilities=[tool_capability("workspace_read", schema=schema, policy=policy)],
        sidecars=[sidecar(schema, [policy])],
        policies={"policy_refs": [{"kind": "runtime_package", "id": "policy.package.default"}]},
    )


PACKAGES: Made = {
    "runtime-package-canonical-v1": lambda: canonical_snapshot(contract_package()),
    "runtime-package-fingerprint": lambda: {
        "fingerprint": fingerprint(contract_package()),
        "schema_version": 1,
    },
}


@pytest.mark.parametrize("name", files("package"))
async def test_a_package_is_made_from_its_parts(name: str) -> None:
    await check("package", name, PACKAGES)


def test_the_recorded_snapshot_has_the_recorded_fingerprint() -> None:
    found = read_package(text_of("package", "runtime-package-canonical-v1"))
    assert canonical_snapshot(found) == found
    assert fingerprint(found) == read("package", "runtime-package-fingerprint")["fingerprint"]


# Identifiers and references


def remote() -> SourceRef:
    return SourceRef(
        kind="remote_channel",
        id="source.remote.1",
        trust="user_provided",
        privacy="content_refs_only",
        correlation=(CorrelationEntry(key="thread", value="thread.redacted"),),
        redacted_summary="remote user request",
    )


def references() -> JsonObject:
    return {
        "source": remote(),
        "destination": DestinationRef(
            kind="provider",
            id="destination.provider.1",
            privacy="content_refs_only",
            retention="run_scoped",
            redacted_summary="provider projection",
        ),
        "entity": EntityRef(
            kind="run",
            id="run.contract",
            source=remote(),
            privacy="content_refs_only",
            redacted_summary="run subject",
        ),
        "policy": PolicyRef(kind="privacy", id="policy.privacy.default", version="v1"),
    }


FAMILIES_OF_IDS = ("agent_id", "run_id", "event_id", "trace_id", "event_cursor", "journal_cursor")

IDS: Made = {
    "typed-ids": lambda: {
        family: check_id(f"{family.removesuffix('_id').replace('_', '.')}.contract")
        for family in FAMILIES_OF_IDS
    },
    "refs": references,
    "privacy-retention-trust": lambda: CLASSES,
}


@pytest.mark.parametrize("name", files("ids"))
async def test_identifiers_and_references_are_written_alike(name: str) -> None:
    await check("ids", name, IDS)


# Events


def notice() -> OverflowNotice:
    upto = EventCursor(
        scope={"run": "run.event.contract"},
        event_seq=9,
        event_id="event.9",
        journal_cursor="journal.cursor.9",
    )
    return preserved("drop_non_terminal", 7, upto)


EVENTS: Made = {
    "run_started": lambda: event_of(
        run_of("event.contract"), 1, "run_started", summary="run started fixture"
    ),
    "run_completed": lambda: event_of(
        run_of("event.contract"), 2, "run_completed", cursor="journal.cursor.2"
    ),
    "archive_cursor": lambda: ArchiveCursor(
        archive_id="archive.events.contract",
        position="archive.position.42",
        event_id="event.42",
        watermark="2026-05-24T12:00:42Z",
    ),
    "overflow_notice": notice,
}


@pytest.mark.parametrize("name", files("events"))
async def test_an_event_is_made_from_its_run(name: str) -> None:
    await check("events", name, EVENTS)


# Journals


def journal_run() -> RunContext:
    return RunContext(
        run_id="run.journal.1",
        agent_id="agent.journal.1",
        trace_id="trace.journal.1",
        fingerprint="runtime.package.fingerprint.test",
        redaction_policy_id="redaction.default",
    )


def entry(number: int, family: str, kind: str) -> Entry:
    return Entry(
        record_id=f"journal.record.{number}",
        journal_seq=number,
        timestamp_millis=40 + number,
        family=family,
        kind=kind,
        destination=TOOL_DESTINATION,
    )


def tool_intent() -> JournalRecord:
    effect = Effect(
        effect_id="effect.tool.1",
        kind="tool_execution",
        subject=entity("tool_call", "tool.call.1"),
        destination=TOOL_DESTINATION,
        idempotency_key="idem.tool.1",
        summary="execute workspace read tool",
    )
    return intent(journal_run(), entry(1, "effect", "intent"), effect)


def unsafe_pending() -> JournalRecord:
    pending = PendingEffect(
        effect_id="effect.tool.1",
        intent_record_id="journal.record.intent.1",
        idempotency_key="idem.tool.1",
        unsafe_pending_reason="terminal result append failed after external operation",
    )
    payload = Recovery(unsafe_pending=(pending,), recovery_reason="terminal result append failed")
    return record(journal_run(), entry(2, "recovery", "marker"), payload)


JOURNALS: Made = {"effect-intent": tool_intent, "recovery-unsafe-pending": unsafe_pending}


@pytest.mark.parametrize("name", files("journal"))
async def test_a_journal_record_is_made_from_its_effect(name: str) -> None:
    await check("journal", name, JOURNALS)


# What was written by the other side is read, and written again as it was: for recordings of these kinds.

SHAPES: dict[str, type[Wire]] = {
    "events/run_started": Published,
    "events/run_completed": Published,
    "events/archive_cursor": ArchiveCursor,
    "events/overflow_notice": OverflowNotice,
    "journal/effect-intent": JournalRecord,
    "journal/recovery-unsafe-pending": JournalRecord,
    "output_contract/inline-json-contract": OutputContract,
}


@pytest.mark.parametrize("place", SHAPES)
def test_a_recording_is_read_strictly_and_written_again(place: str) -> None:
    folder, _, name = place.partition("/")
    found = msgspec.convert(read(folder, name), SHAPES[place])
    assert plain(found) == read(folder, name)
    if folder == "events":  # these stand there with their fields in order
        assert pretty(found) == text_of(folder, name).strip()


# Policies

POLICIES: Made = {"missing_dispatcher_decision": lambda: missing("approval_dispatcher")}


@pytest.mark.parametrize("name", files("policy"))
async def test_a_decision_is_written_alike_to_the_letter(name: str) -> None:
    await check("policy", name, POLICIES)
    assert pretty(POLICIES[name]()) == text_of("policy", name).strip()


# Tools


def registered() -> JsonObject:
    made = []
    capabilities = []
    kinds: list[tuple[str, EffectClass, RiskClass]] = [("write", "Write", "High"), ("read", "Read", "Low")]
    for name, effect, risk in kinds:
        policy = PolicyRef(kind="approval", id=f"policy.approval.{name}")
        schema = SidecarRef(sidecar_id=f"sidecar.schema.{name}", kind="tool_schema", version="v1")
        named = f"workspace_{name}"
        capabilities.append(
            tool_capability(named, schema=schema, policy=policy, capability_id=f"cap.tool.{name}")
        )
        made.append(
            route(
                named,
                policies=[policy],
                effect=effect,
                risk=risk,
                capability_id=f"cap.tool.{name}",
            )
        )
    return {"routes": registry(package(capabilities=capabilities), made).rows()}


TOOLS: Made = {"tool-registry-snapshot": registered}


@pytest.mark.parametrize("name", files("tools"))
async def test_a_registry_of_tools_is_made_from_the_routes_of_a_package(name: str) -> None:
    await check("tools", name, TOOLS)


# Output contracts and validation

CONTRACTS: Made = {
    "inline-json-contract": lambda: contract_document(
        contract("schema.todo_inline", TITLED, version=(1, 2, 0))
    )
}


@pytest.mark.parametrize("name", files("output_contract"))
async def test_an_output_contract_is_made_from_its_schema(name: str) -> None:
    await check("output_contract", name, CONTRACTS)


TODO = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "priority": {"type": "string", "enum": ["low", "high"]}},
    "required": ["title"],
    "additionalProperties": False,
}


def judged(*answers: tuple[str, str], repairs: int = 2) -> list[JsonObject]:
    """The records of these answers, each with its name."""
    repair = msgspec.structs.replace(REPAIR, max_repair_attempts=repairs)
    wanted = contract("schema.todo_validation", TODO, repair=repair)
    candidates = [
        (Candidate(source_attempt_id=f"attempt.{name}", content_ref=f"content.validation.{name}"), text)
        for name, text in answers
    ]
    return list(judge(wanted, candidates).records)


VALIDATIONS: Made = {
    "valid-output-record": lambda: judged(("valid", '{"title": "ship", "priority": "high"}'))[-1],
    "invalid-output-record": lambda: judged(("invalid", f'{{"priority": "urgent", "extra": "{SECRET}"}}'))[0],
    "repair-request-record": lambda: judged(("repair_initial", '{"priority": "low"}'))[-1],
    "repair-exhausted-record": lambda: judged(
        ("exhaust_initial", "{}"), ("exhaust_retry", '{"priority": "low"}'), repairs=1
    )[-1],
}


@pytest.mark.parametrize("name", files("validation"))
async def test_a_verdict_is_recorded_alike(name: str) -> None:
    await check("validation", name, VALIDATIONS)


# Traces of whole runs: ours, through the public interface

SAID = "hello from fake provider"
TYPED = {"typed-run": [say('{"title": "ship"}')], "repair-success": [say("{}"), say('{"title": "ship"}')]}


@pytest.mark.parametrize("name", files("p0"))
async def test_a_turn_of_ours_leaves_the_trace_of_a_text_run(name: str) -> None:
    trace = await traced(say(SAID))
    rows = {"text-run-journal": journal_rows(trace.records), "text-run-events": event_rows(trace.events)}
    found = read("p0", name)
    assert {"schema_version": 1, name.rpartition("-")[2].replace("journal", "records"): rows[name]} == found


@pytest.mark.parametrize("name", files("p1"))
async def test_a_typed_turn_of_ours_leaves_the_trace_of_a_typed_run(name: str) -> None:
    run, _, what = name.rpartition("-")
    trace = await traced(*TYPED[run], output=TITLED)
    rows = journal_rows(trace.records) if what == "journal" else event_rows(trace.events)
    assert {"schema_version": 1, what.replace("journal", "records"): rows} == read("p1", name)


# Privacy


def overflow() -> JsonObject:
    run = run_of("privacy")
    kinds = ["model_stream_delta"] * 3 + ["run_completed"]
    stream = [
        event_of(run, number, kind, names="event.privacy", summary="a piece")
        for number, kind in enumerate(kinds, 1)
    ]
    wanted = CompiledFilter(EventFilter(queue=QueueBounds(capacity=2, terminal_reserve=1)))
    frames = read_bounded(stream, wanted, scope={"run": "run.privacy"})
    return {
        "schema_version": 1,
        "bounded_capacity": 2,
        "delivered_kinds": [frame.event.envelope.event_kind for frame in frames],
        "overflow": plain(frames[-1].overflow),
        "raw_content_absent": SECRET not in json.dumps(plain(frames)),
    }


class Counting(MemoryStore):
    """A store that counts who looks into it."""

    lookups = 0
    scans = 0

    async def get_blob(self, digest: str) -> bytes:
        self.lookups += 1
        return await super().get_blob(digest)

    async def read(self, session_id: str, *, after: int = 0, limit: int = 1_000) -> list[Event]:
        self.scans += 1
        return await super().read(session_id, after=after, limit=limit)


class Unread:
    """An event that counts who looks at its payload."""

    def __init__(self, published: Published) -> None:
        self.envelope = published.envelope
        self.parsed = 0

    @property
    def payload(self) -> None:
        self.parsed += 1


async def hot_path() -> JsonObject:
    store = Counting()
    async with Runtime(store) as runtime:
        session = await runtime.session(Agent("You test.", model=Sim.always(SAID)))
        await session.run("hello")
        events = export_events(await session.events())
        before = store.lookups, store.scans
        wanted = CompiledFilter(
            EventFilter(
                run_ids=include(events[0].envelope.run_id),
                families=include("run"),
                kinds=include("run_completed"),
                privacy_classes=include("content_refs_only"),
                queue=QueueBounds(capacity=4, terminal_reserve=1),
            )
        )
        unread = [Unread(published) for published in events]
        frames = read_bounded(unread, wanted)  # type: ignore[arg-type]  # events whose payload tells on its reader
        return {
            "matched_envelope": [frame.event.envelope.event_kind for frame in frames] == ["run_completed"],
            "indexed_fields": wanted.indexed_fields,
            "payload_access": wanted.filter.payload_access,
            "queue": plain(wanted.filter.queue),
            "content_store_lookup_count": store.lookups - before[0],
            "journal_scan_count": store.scans - before[1],
            "payload_parse_count": sum(it.parsed for it in unread),
        }


def preserved_ends() -> JsonObject:
    upto = EventCursor(
        scope={"run": "run.privacy"},
        event_seq=9,
        event_id="event.privacy.9",
        journal_cursor="journal.terminal.9",
    )
    queue = SinkQueue(sink_id="telemetry.terminal.overflow", sink_kind="test", capacity=1)
    queue.terminal_reserve = 0
    progress = Projection(kind="progress", run_id="run.privacy", journal_cursor="journal.progress.8")
    assert queue.push(progress) is None
    end = Projection(kind="run_terminal", run_id="run.privacy", journal_cursor="journal.terminal.9")
    failure = queue.push(end)
    return {
        "event_overflow": plain(preserved("drop_non_terminal", 5, upto)),
        "queued_projection_kind": queue.waiting[0].kind,
        "telemetry_failure": plain(failure),
    }


def absent(value: Any) -> bool:
    return SECRET not in json.dumps(plain(value), default=repr)


async def redaction() -> JsonObject:
    """One sentinel through everything: what users, models and tools say, context, telemetry and stream rules."""

    @tool(effect="pure")
    async def look(text: str) -> str:
        """Look."""
        return f"{SECRET} {text}"

    acted = await traced(call("look", text=SECRET), say(SECRET), tools=(look,), said=SECRET)
    typed = await traced(say(f'{{"title": "{SECRET}"}}'), output=TITLED, said=SECRET)
    ran = [plain(line)["payload"] for line in acted.records if line.record_kind == "tool"]
    outputs = {
        item["record_kind"]: item
        for item in (plain(line)["payload"].get("record") or {} for line in typed.records)
        if "record_kind" in item
    }
    envelope = acted.events[-1].envelope
    return {
        "event_default": {
            "content_capture": envelope.content_capture,
            "privacy": envelope.privacy,
            "raw_content_absent": absent(acted.events) and absent(typed.events),
        },
        "journal_default": {
            "content_refs_only": all(line.privacy == "content_refs_only" for line in acted.records),
            "raw_content_absent": absent(acted.records) and absent(typed.records),
        },
        "tool": {
            "args_are_refs": len(ran[0]["requested_args_refs"]),
            "result_is_refs": len(ran[1]["result_refs"]),
            "raw_content_absent": absent(ran),
        },
        "output": {
            "publication_raw_absent": absent(outputs["typed_result_publication"]),
            "validated_output_privacy": outputs["validated_output"]["privacy"],
            "validated_output_raw_absent": absent(outputs["validated_output"]),
        },
        "context": context(),
        "telemetry": telemetry(),
        "stream_rule": stream_rule(),
    }


def context() -> JsonObject:
    content = SECRET.encode()
    ref = ContentRef(content_id="content.1", version="v1", content_hash=digest_of(content))
    held = {"content.1": ("v1", content)}
    closed, opened = resolve(ref, held), resolve(ref, held, raw_context(1_024))
    return {
        "default_raw_content_included": closed.raw_content_included,
        "default_redacted_has_bytes": closed.bytes is not None,
        "raw_opt_in_has_bytes": opened.bytes is not None,
        "raw_opt_in_raw_content_included": opened.raw_content_included,
    }


def telemetry() -> JsonObject:
    told = Projection(kind="progress", run_id="run.1", journal_cursor="journal.1", raw=SECRET)
    closed = SinkQueue(sink_id="sink.closed", sink_kind="test")
    gates = CapturePolicy(
        mode="RawContent", source_permits_content=True, sink_permits_content=True, byte_limit=64
    )
    opened = SinkQueue(sink_id="sink.open", sink_kind="test", capture=gates)
    closed.push(told)
    opened.push(told)
    return {
        "default_effective_capture": capture("RawContent", closed.capture).effective,
        "default_strips_raw": closed.waiting[0].raw is None,
        "raw_opt_in_keeps_raw": opened.waiting[0].raw == SECRET,
    }


def stream_rule() -> JsonObject:
    rule = LiteralRule("rule.1", SECRET, "mask_and_continue", ("assistant_text",))
    pieces = [
        Delta(channel="assistant_text", cursor=f"delta.{at}", text=text)
        for at, text in enumerate((SECRET[:5], SECRET[5:]))
    ]
    matched = [rule.feed(piece) for piece in pieces]
    assert [len(found) for found in matched] == [0, 1]
    return {
        "intervention_raw_absent": absent(matched),
        "serialized_delta_raw_absent": absent([piece.record() for piece in pieces]),
    }


PRIVACY: Made = {
    "event-subscriber-overflow": overflow,
    "hot-path-event-filter": hot_path,
    "terminal-overflow-preservation": preserved_ends,
    "redaction-matrix": redaction,
}


@pytest.mark.parametrize("name", files("privacy"))
async def test_what_must_not_be_seen_is_not_seen(name: str) -> None:
    await check("privacy", name, PRIVACY)
