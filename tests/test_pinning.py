"""A manifest made again from its document, as far as it can be."""

from decimal import Decimal
from typing import Any

import msgspec

from holdfast import (
    FILES,
    Agent,
    Budget,
    CapabilityRef,
    Config,
    Limits,
    Manifest,
    NetworkAccess,
    Rate,
    Registry,
    Rule,
    Settings,
    Taint,
    diff,
    tool,
)
from holdfast.drivers.sim import Sim, say
from holdfast.guard import Guard
from holdfast.hook import Hook, HookEvent
from holdfast.proof.pinning import pinned
from holdfast.resolve import resolve

NAMES = Registry(drivers={"sim": Sim.always(say("Hi."))})


def made(text: str = "Be kind.", model: Any = "sim/x", **fields: Any) -> Manifest:
    """A manifest of one layer."""
    return resolve(
        Agent(text, model=model, config=Config(**fields)).layers, names=NAMES, lent=frozenset({FILES})
    )


@tool
async def look(place: str) -> str:
    """Look there."""
    return place


@tool
async def wait(seconds: int) -> None:
    """Wait."""


async def noted(event: HookEvent) -> None:
    """Take a note."""


note = Hook(id="note", point="after_turn", run=noted)


RICH: dict[str, Any] = {
    "settings": Settings(max_tokens=50, temperature=0.5),
    "limits": Limits(max_iterations=7, turn_timeout=60.0, repeated_calls=0, asks_per_minute=7),
    "network": NetworkAccess(allowed=("*.example.com",), blocked=("bad.example.com",)),
    "capabilities": ("compaction", "files"),
    "rules": (Rule(id="no-look", decision="deny", name="look"),),
    "taint": Taint(decision="deny"),
    "budgets": (Budget(scope="turn", quantity="usd", hard=Decimal("0.10")),),
    "rates": (Rate(calls=5, per=60.0, tool="look"),),
    "guards": (Guard(id="names", words=("ann", "bob"), where="output"),),
    "parallel_calls": False,
    "locale": "de",
}


def rich(**fields: Any) -> Manifest:
    """With something in nearly every field."""
    refs = tuple(CapabilityRef(name=name) for name in RICH["capabilities"])
    return made(
        "Be exact.", **{**RICH, "capabilities": refs, "tools": (look, wait), "hooks": (note,), **fields}
    )


def test_data_comes_back_exactly_whatever_today_says() -> None:
    then = rich()
    functions = {"tools": tuple(reversed(then.tools.values())), "hooks": (note,)}
    for today in (made(**functions), rich(limits=Limits(max_iterations=9), locale="fr"), then):
        manifest, missing = pinned(then.document, today, NAMES)
        assert missing == []
        assert diff(manifest, then) == []
        assert manifest.digest == then.digest


def test_tools_keep_the_order_they_had() -> None:
    then, today = made(tools=(look, wait)), made(tools=(wait, look))
    manifest, missing = pinned(then.document, today, NAMES)
    assert missing == []
    assert list(manifest.tools) == ["look", "wait"]
    assert manifest.digest == then.digest != today.digest


def test_what_is_not_there_today_is_missing() -> None:
    then = rich()
    _, missing = pinned(then.document, made(), NAMES)
    fields = {it.field for it in missing}
    assert {"tools.look", "tools.wait", f"hooks.{then.hooks[0].id}"} <= fields
    assert not any(
        it.startswith(("instructions", "limits", "settings", "budgets", "rules", "guards")) for it in fields
    )


def test_a_model_that_nobody_serves_any_more_is_missing() -> None:
    then = made(model="sim/x")
    bare = Registry(drivers={"other": Sim.always(say("Hi."))})
    today = resolve(Agent("Be kind.", model="other/y").layers, names=bare)
    _, missing = pinned(then.document, today, bare)
    assert [it.field for it in missing] == ["model"]


def test_what_an_older_version_did_not_write_down_is_missing() -> None:
    then = made()
    told = msgspec.json.decode(then.document)
    del told["network"], told["locale"]
    _, missing = pinned(msgspec.json.encode(told), then, NAMES)
    assert {it.field.split(".")[0] for it in missing} == {"network", "locale"}
