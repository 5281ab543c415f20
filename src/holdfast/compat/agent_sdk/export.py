"""A session's log as journal records and events: the same facts, in the other system's order and words.

Every fact adds its records as it is read, so that the export of the beginning of a log is the beginning of the export
of the whole. Intents of model calls stand with their outcomes, since the log has no fact of its own for them. Nothing
that was said, called or answered is in the export.
"""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.compat.agent_sdk.opening import Named, Packages, begin
from holdfast.compat.agent_sdk.run import Run
from holdfast.compat.agent_sdk.steps import STEPS
from holdfast.compat.agent_sdk.trace import Journal, Stream, Trace
from holdfast.errors import UsageError
from holdfast.events import Event, InputMessage, SessionCreated, TurnStarted


def export_session(events: Iterable[Event], packages: Packages | None = None) -> Trace:
    """The records and events of a session, of which these are the events from the first on.

    `packages` name what each turn ran under, by the digest of its manifest; without, that digest stands for the
    fingerprint. Raises `UsageError` for a log that does not begin at its beginning.
    """
    reading = _Reading(packages or {})
    for event in events:
        reading.take(event)
    return reading.trace


def export_journal(events: Iterable[Event], packages: Packages | None = None) -> Journal:
    """The journal records of a session; see `export_session`."""
    return tuple(export_session(events, packages).records)


def export_events(events: Iterable[Event], packages: Packages | None = None) -> Stream:
    """The events of a session; see `export_session`."""
    return tuple(export_session(events, packages).events)


class _Reading:
    def __init__(self, packages: Packages) -> None:
        self.trace = Trace()
        self._named = Named(packages)
        self._runs: dict[str, Run] = {}
        self._wanted: dict[str, InputMessage] = {}
        self._sequence = 0
        self._messages = 0

    def take(self, event: Event) -> None:
        """Read one more fact."""
        self._sequence += 1
        if event.sequence != self._sequence:
            raise UsageError(
                f"event {event.sequence} of {event.session_id} stands where number {self._sequence} is due; "
                "export a log from its first event on"
            )
        match event.data:
            case SessionCreated(agent=agent):
                self._named.agent = agent
            case InputMessage(turn_id=turn_id, output=output) as fact if output is not None:
                self._wanted[turn_id] = fact
            case TurnStarted() as fact if event.context.turn_id not in self._runs:
                self._begin(event, fact)
            case _:
                self._go_on(event)

    def _begin(self, event: Event, fact: TurnStarted) -> None:
        turn_id = event.context.turn_id
        wanted = self._wanted.pop(turn_id, None)
        run = begin(self.trace, self._named, event, fact, wanted, self._messages)
        self._runs[turn_id] = run
        self._messages = run.messages

    def _go_on(self, event: Event) -> None:
        step, run = STEPS.get(event.type), self._runs.get(event.context.turn_id)
        if step is None or run is None:
            return
        run.trace.at = event.ts
        step(run, event.data)
        if run.messages > self._messages:
            self._messages = run.messages
