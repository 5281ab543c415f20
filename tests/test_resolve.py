"""From layers to a manifest: capabilities expanded, names looked up, and errors that name what to mend."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from holdfast.agent import Agent, Harness
from holdfast.capability import Capability, CapabilityRef, SeedFile
from holdfast.config import Config, Layer, Limits
from holdfast.driver import Driver
from holdfast.drivers.sim import Sim
from holdfast.errors import CapabilityCycle, ConfigError, MissingService, UnknownCapability, UnknownModel
from holdfast.hook import Hook
from holdfast.manifest import Manifest
from holdfast.network import NetworkAccess
from holdfast.policy import Policy
from holdfast.registry import Registry
from holdfast.resolve import MAX_CAPABILITIES, resolve
from holdfast.services import FILES, Key
from holdfast.tool import Tool, tool
from tests.layers import HOOKS, POLICIES, TOOLS, permit, silent

SIM = Sim.always("hi")
TILL: Key[object] = Key("till")


@tool
async def refund(cents: int) -> str:
    """Refund an order."""
    return "done"


def capability(config: Any) -> Capability:
    """Made from its configuration, which its instructions repeat."""
    return Capability(name="made", instructions=f"made with {sorted(config)}")


def manifest(*configs: Config, lent: tuple[Key[Any], ...] = (), **capabilities: Any) -> Manifest:
    """Of these layers, lowest first, with a simulated model unless one names another."""
    layers = [Layer(name="runtime", config=Config(model="sim/base"))]
    layers += [Layer(name=f"layer {place}", config=config) for place, config in enumerate(configs, 1)]
    registry = Registry(drivers={"sim": lambda: SIM}, capabilities={"made": capability, **capabilities})
    return resolve(layers, names=registry, lent=frozenset(lent))


def bundle(name: str, *depends: str, **brings: Any) -> Capability:
    return Capability(name=name, depends=depends, **brings)


def names(found: Manifest) -> list[str]:
    return [ref.name for ref in found.capabilities]


def test_without_layers_that_say_more_everything_has_its_default() -> None:
    found = manifest()
    assert (found.model, found.routes[0].name, found.routes[0].driver) == ("sim/base", "base", SIM)
    assert (found.instructions, found.tools, found.files, found.locale) == ("", {}, (), "")
    assert (found.max_iterations, found.turn_timeout, found.tool_timeout) == (100, None, 300.0)
    assert (found.tool_concurrency, found.model_retries, found.retry_timeout) == (32, 2, 300.0)
    assert found.result_bytes == 65_536
    assert (found.parallel_calls, found.network) == (True, NetworkAccess())


def test_layers_fold_from_the_root_down() -> None:
    house = Harness("House rules.", name="house", model="sim/house", limits=Limits(max_iterations=5))
    desk = Harness("Desk rules.", name="desk", parent=house, tools=[refund])
    agent = Agent("Be brief.", name="brief", model="sim/agent", limits=Limits(model_retries=0))
    layers = (*desk.layers, *agent.layers, Layer(name="session", config=Config(locale="de")))
    found = resolve(layers, names=Registry(drivers={"sim": SIM}))
    assert found.instructions == (
        "House rules.\n\nDesk rules.\n\nBe brief.\n\nAnswer in the user's language and locale: de."
    )
    assert (found.model, list(found.tools)) == ("sim/agent", ["refund"])
    assert (found.max_iterations, found.model_retries) == (5, 0)


def test_a_driver_object_serves_as_the_model() -> None:
    own: Driver = Sim.always("own")
    found = manifest(Config(model=own))
    assert (found.routes[0].driver, found.model, found.routes[0].name) == (own, "sim/", "")


def test_several_models_are_routes_in_their_order() -> None:
    own: Driver = Sim.always("own")
    found = manifest(Config(model=["sim/a", own, "sim/b"]))
    assert [(route.model, route.name) for route in found.routes] == [
        ("sim/a", "a"),
        ("sim/", ""),
        ("sim/b", "b"),
    ]
    assert found.describe()["model"] == ["sim/a", "sim/", "sim/b"]
    assert [found.route(place).model for place in (0, 1, 2, 3, 9)] == [
        "sim/a",
        "sim/",
        "sim/b",
        "sim/b",
        "sim/b",
    ]
    assert manifest(Config(model=("sim/a",))).digest == manifest(Config(model="sim/a")).digest
    assert (
        manifest(Config(model=["sim/b", "sim/a"])).digest != manifest(Config(model=["sim/a", "sim/b"])).digest
    )
    (origin,) = [it for it in found.explain() if it.field == "model"]
    assert origin.value == "sim/a, sim, sim/b"
    with pytest.raises(UnknownModel, match="no layer names a model"):
        manifest(Config(model=[]))
    with pytest.raises(UnknownModel, match="no driver for vendor 'smi'"):
        manifest(Config(model=["sim/a", "smi/b"]))


def test_dependencies_come_first_and_each_capability_once() -> None:
    found = manifest(
        Config(capabilities=(bundle("top", "left", "right"), bundle("other", "base"))),
        left=bundle("left", "base"),
        right=bundle("right", "base"),
        base=bundle("base"),
    )
    assert names(found) == ["base", "left", "right", "top", "other"]


def test_an_explicit_configuration_beats_the_empty_one_of_a_dependency() -> None:
    top, made = bundle("top", "made"), CapabilityRef(name="made", config={"x": 1})
    for asked in ((top, made), (made, top)):
        found = manifest(Config(capabilities=asked))
        assert sorted(names(found)) == ["made", "top"]
        assert names(found).index("made") < names(found).index("top")
        assert "made with ['x']" in found.instructions


def test_a_capability_registered_under_another_name_keeps_its_configuration() -> None:
    found = manifest(Config(capabilities=(CapabilityRef(name="alias", config={"x": 1}),)), alias=capability)
    assert found.capabilities == (CapabilityRef(name="alias", config={"x": 1}),)


def test_what_a_capability_brings_goes_below_what_a_layer_says() -> None:
    tools: list[Tool] = TOOLS
    brought = bundle(
        "kit",
        instructions="  Use the kit. ",
        tools=(tools[0], tools[2]),
        files=(SeedFile(path="/a", content="kit"), SeedFile(path="/b", content="kit")),
        hooks=(replace(HOOKS[0], id="kit:a"), HOOKS[2]),
        policies=(POLICIES[0],),
    )
    own = Config(
        instructions="Be brief.",
        capabilities=(brought,),
        tools=(tools[1],),
        files=(SeedFile(path="/a", content="mine"),),
        hooks=(replace(HOOKS[1], id="kit:a"), HOOKS[2]),
        policies=(POLICIES[1],),
    )
    found = manifest(own)
    assert found.instructions == 'Be brief.\n\n<capability name="kit">\nUse the kit.\n</capability>'
    assert list(found.tools.values()) == [tools[2], tools[1]]
    assert {file.path: file.content for file in found.files} == {"/b": "kit", "/a": "mine"}
    assert found.policies == (POLICIES[1],)
    named = (replace(HOOKS[2], id=f"kit:{HOOKS[2].id}"), replace(HOOKS[1], id="kit:a"), HOOKS[2])
    assert found.hooks == named, "a hook of a capability is replaced under its whole name only"


def chain(length: int) -> dict[str, Capability]:
    return {f"c{n}": bundle(f"c{n}", *([f"c{n + 1}"] if n + 1 < length else [])) for n in range(length)}


def test_a_hundred_capabilities_are_taken_and_no_more() -> None:
    first = Config(capabilities=(CapabilityRef(name="c0"),))
    assert len(manifest(first, **chain(MAX_CAPABILITIES)).capabilities) == MAX_CAPABILITIES
    for length in (MAX_CAPABILITIES + 1, 3_000):
        with pytest.raises(ConfigError, match="more than 100 capabilities; the last was 'c100'"):
            manifest(first, **chain(length))
    many = Config(capabilities=tuple(bundle(f"b{n}") for n in range(MAX_CAPABILITIES + 1)))
    with pytest.raises(ConfigError, match="more than 100 capabilities; the last was 'b100'"):
        manifest(many)


@pytest.mark.parametrize(
    ("circle", "drawn"),
    [({"a": ("a",)}, "a -> a"), ({"a": ("b",), "b": ("c",), "c": ("b",)}, "a -> b -> c -> b")],
)
def test_a_circle_of_capabilities_is_drawn(circle: dict[str, tuple[str, ...]], drawn: str) -> None:
    made = {name: bundle(name, *depends) for name, depends in circle.items()}
    with pytest.raises(CapabilityCycle, match=f"in a circle: {drawn}$"):
        manifest(Config(capabilities=(CapabilityRef(name="a"),)), **made)


def test_an_unknown_capability_is_named_with_who_asked_for_it_and_what_there_is() -> None:
    with pytest.raises(
        UnknownCapability, match=r"^layer 1: no capability is called 'mad'; did you mean 'made'\?"
    ):
        manifest(Config(capabilities=(CapabilityRef(name="mad"),)))
    with pytest.raises(
        UnknownCapability, match=r"^capability kit: no capability is called 'xyz'; known here: "
    ):
        manifest(Config(capabilities=(bundle("kit", "xyz"),)))


def test_an_unknown_model_is_named_with_the_layer_that_asked_for_it() -> None:
    with pytest.raises(UnknownModel, match=r"^layer 2: no driver for vendor 'sin' .*did you mean 'sim'\?"):
        manifest(Config(model="sim/a"), Config(model="sin/a"), Config(locale="de"))
    with pytest.raises(
        UnknownModel, match=r"^layer 1: model 'gpt' is not of the form vendor/name; vendors here"
    ):
        manifest(Config(model="gpt"))
    with pytest.raises(UnknownModel, match=r"no layer names a model; set one, such as Agent"):
        resolve([Layer(name="agent a", config=Config())], names=Registry())
    wrongs: tuple[Any, ...] = (7, ["sim/a", None], object())
    for wrong in wrongs:
        with pytest.raises(UnknownModel, match=r'^a model is "vendor/name" or a driver object, not '):
            manifest(Config(model=wrong))


def test_every_missing_service_is_told_at_once_with_who_needs_it_and_where_to_lend_it() -> None:
    @tool(needs=(TILL,))
    async def pay() -> None: ...

    kit = bundle("kit", needs=(FILES,), tools=(pay,))
    with pytest.raises(MissingService) as caught:
        manifest(Config(capabilities=(kit,)))
    assert str(caught.value) == (
        "capability 'kit' needs 'files'; tool 'pay' needs 'till'; lend it with Runtime(services=...) or "
        "runtime.session(services=...)"
    )
    assert manifest(Config(capabilities=(kit,)), lent=(FILES, TILL)).tools["pay"] is pay
    with pytest.raises(MissingService, match="'till'"):
        manifest(Config(capabilities=(kit,)), lent=(FILES, Key("till")))


LIMITS = [
    "max_iterations",
    "turn_timeout",
    "tool_timeout",
    "tool_concurrency",
    "model_retries",
    "retry_timeout",
    "result_bytes",
]


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [-1, -0.5, math.inf, math.nan, 0])
def test_a_limit_that_limits_nothing_is_refused(name: str, value: float) -> None:
    config = Config(limits=Limits(**{name: value}))
    if (name, value) == ("model_retries", 0):
        assert manifest(config).model_retries == 0
        return
    with pytest.raises(ConfigError, match=f"^limit {name} is {value}; it must be above 0"):
        manifest(config)


@pytest.mark.parametrize("field", ["allowed", "blocked"])
def test_a_network_rule_that_cannot_be_read_is_refused_with_its_layer(field: str) -> None:
    bad = NetworkAccess(**{field: ("a.test", "example.com/path")})
    with pytest.raises(
        ConfigError, match=r"^layer 2: 'example.com/path' is not a network rule: .+ Write a host"
    ):
        manifest(Config(network=NetworkAccess(allowed=("a.test",))), Config(network=bad))


@pytest.mark.parametrize(
    "config",
    [
        Config(instructions="\ud800"),
        Config(locale="\udfff"),
        Config(files=(SeedFile(path="/a", content="\ud800"),)),
        Config(capabilities=(CapabilityRef(name="made", config={"a": object()}),)),
        Config(capabilities=(CapabilityRef(name="made", config={"a": "\ud800"}),)),
    ],
    ids=["instructions", "locale", "file", "value", "text"],
)
def test_a_configuration_that_cannot_be_written_down_is_refused_at_once(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"cannot be written as JSON: .*remove lone surrogates"):
        manifest(config)


def test_a_bad_configuration_of_a_capability_says_what_it_takes() -> None:
    with pytest.raises(ConfigError, match="files"):
        manifest(Config(capabilities=(CapabilityRef(name="files", config={"x": 1}),)), lent=(FILES,))


def explained(found: Manifest) -> dict[str, tuple[str, ...]]:
    return {origin.field: origin.layers for origin in found.explain()}


def test_each_value_is_explained_by_the_layer_that_set_it() -> None:
    kit = bundle(
        "kit",
        "made",
        instructions="Use the kit.",
        tools=(TOOLS[0], TOOLS[2]),
        files=(SeedFile(path="/kit", content="1"),),
        hooks=(Hook(id="kit:after_turn", point="after_turn", run=silent),),
        policies=(Policy(name="kit", decide=permit),),
    )
    found = manifest(
        Config(instructions="A", capabilities=(kit,), limits=Limits(max_iterations=3), locale="de"),
        Config(instructions="B", tools=(TOOLS[1],), network=NetworkAccess(allowed=("a.test",))),
        Config(model="sim/top", limits=Limits(max_iterations=4), network=NetworkAccess(blocked=("b.test",))),
    )
    assert explained(found) == {
        "model": ("layer 3",),
        "instructions": ("layer 1", "layer 2", "capability made", "capability kit"),
        "capabilities.kit": ("layer 1",),
        "capabilities.made": ("capability kit",),
        "tools.a": ("layer 2",),
        "tools.b": ("capability kit",),
        "files./kit": ("capability kit",),
        "hooks.kit:after_turn": ("capability kit",),
        "policies.kit": ("capability kit",),
        "network": ("layer 2", "layer 3"),
        "locale": ("layer 1",),
        "limits.max_iterations": ("layer 3",),
        "limits.tool_timeout": ("default",),
        "limits.tool_concurrency": ("default",),
        "limits.model_retries": ("default",),
        "limits.retry_timeout": ("default",),
        "limits.result_bytes": ("default",),
        "limits.repeated_calls": ("default",),
        "limits.asks_per_minute": ("default",),
        "taint": ("default",),
    }


def test_an_explanation_shows_values_short_and_without_addresses() -> None:
    kit = bundle("kit", hooks=(HOOKS[0],), description="D" * 500)
    found = manifest(Config(instructions="I" * 500, capabilities=(kit,), model=Sim.always("x")))
    values = {origin.field: origin.value for origin in found.explain()}
    assert values["instructions"] == "I" * 77 + "..."
    assert values["model"] == "sim"
    assert values["hooks.kit:a"] == '{"id":"kit:a","point":"after_turn","guard":false,"timeout":1.0}'
    assert all(len(value) <= 80 and "0x" not in value for value in values.values())
