"""Whether what is left after the crashes is what was promised."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from holdfast.events import (
    TURN_ENDS,
    AskAnswered,
    AskExpired,
    AskOpened,
    Event,
    Fact,
    InputMessage,
    OutputChecked,
    OutputMessageCompleted,
    ToolCompleted,
)
from holdfast.fold import fold
from holdfast.state import encode_state
from holdfast.testing.crash_report import CrashProblem, ToolTally
from holdfast.testing.crash_scene import Scene
from holdfast.testing.invariants import problems_in
from holdfast.testing.watched import Run
from holdfast.tool import NotDone


class Judge:
    """Looks at every scene, and keeps count."""

    def __init__(self) -> None:
        self.problems: list[CrashProblem] = []
        self.kills = 0
        self.ends: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._again: Counter[str] = Counter()
        self._in_doubt: Counter[str] = Counter()
        self._effects: dict[str, str] = {}

    def see(self, scene: Scene) -> None:
        """Take in what a scene left."""
        self.kills += len(scene.killed)
        found = [*([scene.stuck] if scene.stuck else []), *scene.client.complaints]
        if len(scene.logs) != 1:
            found.append(f"there are {len(scene.logs)} sessions where there should be one")
        for events in scene.logs.values():
            self._count(events, scene.watch.runs)
            found += _problems(scene, events)
        names = _names([event for events in scene.logs.values() for event in events])
        self.problems += [CrashProblem(what=_named(it, names), killed=tuple(scene.killed)) for it in found]

    @property
    def tools(self) -> tuple[ToolTally, ...]:
        """What became of each tool's calls."""
        return tuple(
            ToolTally(
                tool=tool,
                effect=self._effects.get(tool, "-"),
                calls=calls,
                again=self._again[tool],
                in_doubt=self._in_doubt[tool],
            )
            for tool, calls in sorted(self._calls.items())
        )

    def _count(self, events: Sequence[Event], runs: Sequence[Run]) -> None:
        times = Counter(run.call.id for run in runs if not run.asked)
        self._effects.update({run.call.name: run.effect for run in runs})
        for event in events:
            match event.data:
                case OutputMessageCompleted(message=message):
                    for call in message.calls:
                        self._calls[call.name] += 1
                        self._again[call.name] += times[call.id] > 1
                case ToolCompleted(result=result):
                    self._in_doubt[result.name] += result.status == "in_doubt"
            if event.type in TURN_ENDS:
                self.ends[event.type] += 1
        if fold(events[0].session_id, events).asks:
            self.ends["waiting"] += 1


def _problems(scene: Scene, events: Sequence[Event]) -> Iterator[str]:
    yield from problems_in(events, at_rest=not scene.stuck)
    if not scene.stuck and not _is_fold(scene, events):
        yield "the state of the session is not what follows from its log"
    calls: defaultdict[str, list[Run]] = defaultdict(list)
    for run in scene.watch.runs:
        calls[run.call.id].append(run)
    outcomes = {
        event.data.result.call_id: event.data for event in events if isinstance(event.data, ToolCompleted)
    }
    for call_id, runs in calls.items():
        yield from _repeated(call_id, runs)
        if call_id in outcomes:
            yield from _misreported(outcomes[call_id], runs)
    told = _told([event.data for event in events])
    yield from _unfounded([it for it in outcomes.values() if it.result.call_id not in told], calls)
    yield from _doubled(scene)
    yield from _shared_keys(scene.watch.runs)


def _is_fold(scene: Scene, events: Sequence[Event]) -> bool:
    """Whether a session's state follows from this log, byte for byte. Another session's does not belong to it."""
    session = scene.client.session
    if session is None or session.id != events[0].session_id:
        return True
    return encode_state(session.state) == encode_state(fold(session.id, events))


def _repeated(call_id: str, asked: Sequence[Run]) -> Iterator[str]:
    """What is wrong with how often, and with what, one call ran."""
    runs = [run for run in asked if not run.asked]
    if len(runs) < 2:
        return
    attempts = ", then ".join(f"attempt {run.call.attempt}" for run in runs)
    who = f"{call_id} [{runs[0].effect}]"
    if runs[0].effect == "once":
        yield f"{who} ran {len(runs)} times: {attempts}"
    if runs[0].effect == "reconcile":
        yield from _unreconciled(who, asked)
    if len({run.call.key for run in runs}) > 1:
        yield f"{who} ran under several keys: {attempts}"


def _unreconciled(who: str, asked: Sequence[Run]) -> Iterator[str]:
    """A call that may run again only when its tool has been asked, and says that nothing was done."""
    allowed, done = True, False
    for run in asked:
        if run.asked:
            allowed = isinstance(run.answer, NotDone)
            if allowed and done:
                yield f"{who} had run to its end, and its reconcile function says NOT_DONE"
        elif not allowed:
            yield f"{who} ran again without being reconciled (attempt {run.call.attempt})"
        else:
            allowed, done = False, done or run.finished


def _misreported(outcome: ToolCompleted, runs: Sequence[Run]) -> Iterator[str]:
    """An outcome that is not what happened."""
    result, ran = outcome.result, [run for run in runs if not run.asked]
    who = f"{result.call_id} [{runs[0].effect}]"
    if ran and outcome.attempt == 0:
        yield f"{who} ran, and is recorded as {result.status} without an attempt"
    if ran and result.status == "cancelled" and ran[0].effect != "pure":
        yield f"{who} ran, and is recorded as cancelled"


def _told(facts: Sequence[Fact]) -> set[str]:
    """Calls whose results came from somebody, or are the answer itself: nothing runs for them."""
    answers = {it.result.call_id for it in facts if isinstance(it, AskAnswered | AskExpired) and it.result}
    return answers | {it.call_id for it in facts if isinstance(it, OutputChecked)}


def _unfounded(outcomes: Iterable[ToolCompleted], calls: Mapping[str, Sequence[Run]]) -> Iterator[str]:
    for outcome in outcomes:
        if outcome.result.status == "ok" and not any(
            run.finished for run in calls.get(outcome.result.call_id, ())
        ):
            yield f"{outcome.result.call_id} is recorded as ok, and never ran to its end"


def _doubled(scene: Scene) -> Iterator[str]:
    """The same effect, in several runs of one call."""
    runs: defaultdict[tuple[str, str], dict[tuple[int, int], None]] = defaultdict(dict)
    for entry in scene.watch.ledger.entries:
        if entry.doer is not None and entry.doer.call_id:
            runs[entry.doer.call_id, entry.effect][entry.doer.process, entry.doer.attempt] = None
    effects = {run.call.id: run.effect for run in scene.watch.runs}
    for (call_id, effect), times in runs.items():
        if len(times) > 1:
            attempts = " and again in ".join(f"attempt {attempt}" for _, attempt in times)
            yield f"{call_id} [{effects[call_id]}] doubled its effect: {effect!r} in {attempts}"


def _shared_keys(runs: Sequence[Run]) -> Iterator[str]:
    calls: defaultdict[str, set[str]] = defaultdict(set)
    for run in runs:
        calls[run.call.key].add(run.call.id)
    yield from (f"{' and '.join(sorted(ids))} share a key" for ids in calls.values() if len(ids) > 1)


def _names(events: Sequence[Event]) -> dict[str, str]:
    """Words for the ids in these events, so that the same problem reads the same every time."""
    turns: dict[str, str] = {}
    names: dict[str, str] = {}
    for event in events:
        if isinstance(event.data, InputMessage):
            turns.setdefault(event.data.turn_id, f"turn {len(turns) + 1}")
        elif isinstance(event.data, OutputMessageCompleted):
            turn = turns.get(event.context.turn_id, "a turn")
            for index, call in enumerate(event.data.message.calls, 1):
                names[call.id] = f"{call.name} (call {event.data.iteration}.{index} of {turn})"
        elif isinstance(event.data, AskOpened):
            names[event.data.ask_id] = f"the ask about {event.data.tool}"
    return names | turns


def _named(text: str, names: Mapping[str, str]) -> str:
    for identifier in sorted(names, key=len, reverse=True):  # one may begin like another
        text = text.replace(identifier, names[identifier])
    return text
