"""A run while its log is read: what was recorded of it so far, and its beginning and end."""

from __future__ import annotations

from dataclasses import dataclass, field

from holdfast.compat.agent_sdk.canonical import JsonObject
from holdfast.compat.agent_sdk.contract import OutputContract
from holdfast.compat.agent_sdk.payloads import (
    ContextProjection,
    MessageRecord,
    RecordType,
    RunLifecycle,
    RunStatus,
    StructuredOutput,
    TerminalResult,
    TurnLifecycle,
)
from holdfast.compat.agent_sdk.records import JournalRecord
from holdfast.compat.agent_sdk.refs import destination, entity
from holdfast.compat.agent_sdk.repair import Report, lifecycle_record
from holdfast.compat.agent_sdk.trace import RunTrace
from holdfast.messages import Message

PROVIDER = destination("destination.provider", "provider")
"""Where requests to models go."""


@dataclass
class Run:
    """One turn of a session, as a run."""

    trace: RunTrace
    route: JsonObject
    """`route_id` and `model_id` of the package."""
    inputs: tuple[str, ...]
    messages: int
    """That the model has been told so far, in the whole session."""
    tools: set[str] = field(default_factory=set)
    """Names of tools that there are, as far as they are known."""
    contract: OutputContract | None = None
    output: Message | None = None
    """The model's last words."""
    reports: list[Report] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)
    attempts: dict[str, int] = field(default_factory=dict)
    """How often the model was asked again, by why."""
    why: str = ""
    """Why it is asked next."""
    intents: dict[str, str] = field(default_factory=dict)
    """For each call that is under way, the record of its intent."""
    asks: dict[str, str] = field(default_factory=dict)
    """The calls that open asks are about."""
    answers: set[str] = field(default_factory=set)
    """Calls that are nothing but the answer."""

    @property
    def turn_id(self) -> str:
        """The turn that this run is."""
        return self.trace.context.run_id

    def begin(self) -> None:
        """It began, and what the model is to see was put together."""
        run = self.trace
        line = run.record(("run", "started"), RunLifecycle(status="started", reason="p0_text_run"))
        run.publish("run_started", line)
        run.publish("turn_started", self._turn("started", "turn started"))
        self.assemble()
        if self.contract is not None:
            line = self.structured("lifecycle", "requested", lifecycle_record(self.contract, "requested"))
            run.publish("structured_output_requested", line)

    def assemble(self) -> None:
        """What the model is to see was put together."""
        run = self.trace
        payload = ContextProjection(
            projection_id=run.ids.name("context.projection"),
            selected_item_count=self.messages,
            provider_destination=PROVIDER,
        )
        subject = entity("context_projection", payload.projection_id)
        run.publish("context_assembled", run.record(("context", "projected"), payload, subject=subject))

    def structured(self, record_type: RecordType, kind: str, body: JsonObject) -> JournalRecord:
        """Append a record about the typed output."""
        payload = StructuredOutput(record_type=record_type, record=body)
        return self.trace.record(("structured_output", kind), payload)

    def end(self, status: RunStatus) -> None:
        """It ended: the last message, the one terminal record, and the turn."""
        run = self.trace
        message_id = self.output.id if self.output else run.ids.name("message", "output")
        run.record(
            ("message", "completed"),
            MessageRecord(
                message_id=message_id, role="assistant", redacted_summary="assistant message completed"
            ),
            subject=entity("message", message_id),
        )
        effect = run.ids.name("effect", "terminal")
        line = run.record(
            ("run", status),
            TerminalResult(
                effect_id=effect,
                result_record_id=run.trace.records[-1].record_id,
                terminal_status=status,
            ),
            related=(entity("effect", effect),),
        )
        run.publish(f"run_{status}", line)
        kind = "turn_completed" if status == "completed" else "turn_failed"
        run.publish(kind, self._turn(status, f"turn {status}"))

    def _turn(self, status: RunStatus, summary: str) -> JournalRecord:
        payload = TurnLifecycle(
            turn_id=self.turn_id,
            run_ids=(self.turn_id,),
            status=status,
            input_message_id=self.inputs[0] if self.inputs else None,
            output_message_id=self.output.id if self.output and status != "started" else None,
            context_projection_id=None if status == "started" else self.trace.ids.name("context.projection"),
            redacted_summary=summary,
        )
        return self.trace.record(("turn", status), payload, subject=entity("turn", self.turn_id))
