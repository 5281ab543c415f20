"""Views: a reviewed event keeps its shape and tells no content; what nobody classified is content."""

from typing import get_args

import msgspec
import pytest
from msgspec import Struct, structs

from holdfast import Agent, Runtime, TextDelta
from holdfast.drivers.sim import Sim, call
from holdfast.events import KINDS, Event, UnknownFact, decode_event, encode_event
from holdfast.follow import Lagged, Signal
from holdfast.privacy.views import privacy_of, reviewed
from holdfast.tool import tool
from tests.golden.facts import FACTS, event_of

CANARY = "CANARY-in-the-coal-mine"


def planted(value: object, kind: type | None = None) -> object:
    """The value with a canary in each text that is neither public nor one of a fixed list."""
    if isinstance(value, Struct):
        changed = {}
        for name in value.__struct_fields__:
            inner = getattr(value, name)
            private = privacy_of(type(value), name) != "public"
            changed[name] = CANARY if private and isinstance(inner, str) else planted(inner)
        return structs.replace(value, **changed)
    if isinstance(value, tuple | list):
        return type(value)([planted(item) for item in value])
    if isinstance(value, dict):
        return {CANARY: CANARY}
    return value


@pytest.mark.parametrize("name", FACTS)
def test_no_content_of_any_kind_of_fact_is_in_its_reviewed_view(name: str) -> None:
    event = event_of(name)
    whole = structs.replace(event, data=planted(event.data))
    safe = reviewed(whole)
    assert CANARY not in repr(safe)
    assert (safe.id, safe.type, safe.sequence, safe.context) == (event.id, event.type, 42, event.context)
    assert type(safe.data) is type(event.data)


@pytest.mark.parametrize("name", FACTS)
def test_a_reviewed_event_can_be_written_and_read_like_any(name: str) -> None:
    safe = reviewed(event_of(name))
    assert decode_event(encode_event(safe)).type == safe.type
    assert reviewed(safe) is not None


@pytest.mark.parametrize("kind", get_args(Signal), ids=lambda kind: kind.__name__)
def test_signals_are_reviewed_too(kind: type[Struct]) -> None:
    names = {field.name: field.type for field in msgspec.structs.fields(kind)}
    values = {
        name: (7 if hint is int else "stdout" if name == "stream" else CANARY) for name, hint in names.items()
    }
    for name in names:
        if privacy_of(kind, name) == "public" and values[name] == CANARY:
            values[name] = "public"
    assert CANARY not in repr(reviewed(kind(**values)))


def test_an_event_of_an_unknown_kind_is_left_without_data() -> None:
    event = structs.replace(event_of("turn.steered"), type="from.later", data=UnknownFact(data={"x": CANARY}))
    assert CANARY not in repr(reviewed(event))
    assert "from.later" not in KINDS


def test_what_nobody_classified_is_content_and_who_is_opted_in_to_apart() -> None:
    class Later(Struct):
        something: str
        by: str
        count: int

    assert [privacy_of(Later, name) for name in ("something", "by", "count")] == [
        "content",
        "person",
        "content",
    ]
    delta = TextDelta(turn_id="turn_a", message_id="message_a", text="four")
    assert reviewed(delta).text == "[withheld: 4 characters]"
    assert reviewed(delta, show=("public", "content")) == delta
    assert reviewed(Lagged(missed=3, after=4)) == Lagged(missed=3, after=4)
    asked = event_of("ask.answered")
    assert "[withheld" in reviewed(asked).data.by  # type: ignore[attr-defined]
    assert reviewed(asked, show=("public", "person")).data.by == asked.data.by  # type: ignore[attr-defined]


async def test_a_reviewed_subscription_tells_what_happened_and_nothing_that_was_said() -> None:
    @tool
    async def look(place: str) -> str:
        """Look."""
        return f"{CANARY} is at {place}"

    model = Sim.script(call("look", place=CANARY), f"It is {CANARY}.")
    async with Runtime() as runtime:
        session = await runtime.session(Agent(CANARY, name="clerk", model=model, tools=[look]), title=CANARY)
        async with runtime.subscribe(session, view="reviewed") as subscription:
            await (await session.send(f"Where is {CANARY}?"))
            seen = [await anext(subscription) for _ in range(12)]
    events = [item for item in seen if isinstance(item, Event)]
    assert CANARY not in repr(seen)
    assert {"session.created", "tool.started", "tool.completed"} <= {event.type for event in events}
    assert "name='look'" in repr(events)
