"""Agents and harnesses: named layers, and what of them can be written down."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.agent import Agent, Harness, read_layers, write_layers
from holdfast.approver import Approver
from holdfast.capability import Capability, CapabilityRef, SeedFile
from holdfast.config import Config, Layer, Limits, McpServer
from holdfast.driver import Settings
from holdfast.drivers.sim import Sim
from holdfast.errors import ConfigError
from holdfast.events import AskOpened
from holdfast.hook import Hook
from holdfast.network import NetworkAccess
from holdfast.policy import Policy
from holdfast.tool import tool
from tests.layers import permit, silent


@tool
async def refund(cents: int) -> str:
    """Refund an order."""
    return "done"


PLAIN = Config(
    instructions="Be brief.",
    model="sim/a",
    settings=Settings(temperature=0.0, stop=("x",)),
    capabilities=(CapabilityRef(name="files", config={"read_only": True}),),
    files=(SeedFile(path="/a", content="ä\n", read_only=True),),
    network=NetworkAccess(allowed=(), blocked=("a.test",)),
    limits=Limits(max_iterations=3, model_retries=0),
    parallel_calls=False,
    locale="de",
)


async def nobody(ask: AskOpened) -> None:
    """Leave it to others."""


FUNCTIONS = Config(
    model=Sim.always("hi"),
    tools=(refund,),
    hooks=(Hook(id="h:after_turn", point="after_turn", run=silent),),
    policies=(Policy(name="ops", decide=permit),),
    mcp_servers=(McpServer(name="db", command=("serve",), environment={"TOKEN": "hunter2"}),),
    capabilities=(Capability(name="kit"), CapabilityRef(name="files")),
    approver=Approver(name="night desk", decide=nobody),
)


def test_an_agent_is_one_layer_with_its_name() -> None:
    agent = Agent("Be brief.", name="brief", model="sim/a", tools=[refund], limits=Limits(max_iterations=3))
    [layer] = agent.layers
    assert layer.name == "agent brief"
    assert layer.config == Config(
        instructions="Be brief.", model="sim/a", tools=(refund,), limits=Limits(max_iterations=3)
    )
    assert repr(agent) == "Agent(name='brief')"


def test_an_agent_that_says_nothing_sets_nothing() -> None:
    assert Agent().layers == (Layer(name="agent agent", config=Config()),)
    assert Harness().layers == (Layer(name="harness harness", config=Config()),)


def test_capabilities_are_given_by_name_with_a_configuration_or_as_they_are() -> None:
    kit, ref = Capability(name="kit"), CapabilityRef(name="files", config={"read_only": True})
    assert Agent(capabilities=["files", kit]).layers[0].config.capabilities == (
        CapabilityRef(name="files"),
        kit,
    )
    assert Agent(capabilities=[ref]).layers[0].config.capabilities == (ref,)


def test_what_is_given_stands_above_the_config() -> None:
    agent = Agent("Be brief.", model="sim/b", capabilities=["files"], config=PLAIN)
    config = agent.layers[0].config
    assert (config.instructions, config.model, config.locale) == ("Be brief.\n\nBe brief.", "sim/b", "de")
    assert config.capabilities == (CapabilityRef(name="files"),)


def test_a_harness_stands_on_its_parents() -> None:
    house = Harness("House.", name="house", config=Config(locale="de"))
    floor = Harness("Floor.", name="floor", parent=house)
    desk = Harness("Desk.", name="desk", parent=floor, tools=[refund])
    assert [layer.name for layer in desk.layers] == ["harness house", "harness floor", "harness desk"]
    assert desk.layers[:2] == floor.layers
    assert desk.layers[0].config == Config(instructions="House.", locale="de")
    assert repr(desk) == "Harness(name='desk')"


@pytest.mark.parametrize("it", [len, "refund", lambda: 1])
def test_a_function_that_was_not_made_a_tool_is_refused_at_once(it: Any) -> None:
    with pytest.raises(ConfigError, match="is not a tool; make one of a function with @tool"):
        Agent(tools=[it])


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"instructions": 5}, "instructions are text, not 5"),
        ({"tools": refund}, r"tools are a list of tools, not one: write tools=\[refund\]"),
        ({"tools": None}, "tools are a list of tools, not None"),
        ({"capabilities": "files"}, "capabilities are a list of them, not 'files'"),
        ({"capabilities": CapabilityRef(name="files")}, "capabilities are a list of them"),
        ({"limits": {"max_iterations": 2}}, "limits are Limits"),
        ({"config": {"limits": 2}}, "config is a Config"),
    ],
    ids=["a number", "one tool", "no tools", "one name", "one capability", "limits as a dict", "a dict"],
)
@pytest.mark.parametrize("layer", [Agent, Harness])
def test_what_is_easily_given_in_place_of_what_is_meant_is_named(
    layer: Any, given: Any, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        layer(**given)


def test_layers_without_functions_are_read_back_as_they_were() -> None:
    layers = (
        Layer(name="harness desk", config=Config(instructions="Desk.")),
        Layer(name="agent a", config=PLAIN),
    )
    assert read_layers(write_layers(layers)) == (layers, ())


def test_layers_of_nothing_are_read_back_as_nothing() -> None:
    assert read_layers(write_layers(())) == ((), ())
    empty = Agent().layers
    assert read_layers(write_layers(empty)) == (empty, ())


def test_what_only_the_program_can_give_back_is_named() -> None:
    body = write_layers([Layer(name="agent a", config=FUNCTIONS)])
    layers, missing = read_layers(body)
    assert sorted(missing) == [
        "MCP server db",
        "approver night desk",
        "capability kit",
        "driver sim",
        "hook h:after_turn",
        "policy ops",
        "tool refund",
    ]
    assert layers == (Layer(name="agent a", config=Config(capabilities=(CapabilityRef(name="files"),))),)
    assert b"hunter2" not in body
    assert b"0x" not in body


def test_the_same_layers_are_written_as_the_same_bytes() -> None:
    assert write_layers(Agent("Hi.", config=PLAIN).layers) == write_layers(Agent("Hi.", config=PLAIN).layers)
    [written] = json.loads(write_layers(Agent("Hi.").layers))
    assert written == {"name": "agent agent", "instructions": "Hi."}


def test_layers_written_by_a_later_release_are_read_as_far_as_they_are_known() -> None:
    body = (
        b'[{"name": "agent a", "locale": "de", "mood": "sunny", "limits": {"max_iterations": 2, "joy": 1}}]'
    )
    layers, missing = read_layers(body)
    assert layers == (Layer(name="agent a", config=Config(locale="de", limits=Limits(max_iterations=2))),)
    assert missing == ()
