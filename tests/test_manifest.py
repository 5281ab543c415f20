"""The manifest's digest: the same wherever it is computed, and another as soon as behaviour is another."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from holdfast.capability import Capability, CapabilityRef, SeedFile
from holdfast.config import Config, Layer, Limits, McpServer, merge
from holdfast.driver import Settings
from holdfast.drivers.openai_chat import OpenAIChat
from holdfast.drivers.sim import Sim
from holdfast.guard import Guard, Seen
from holdfast.hook import Hook
from holdfast.manifest import Manifest
from holdfast.network import NetworkAccess
from holdfast.policy import Policy
from holdfast.registry import Registry
from holdfast.resolve import resolve
from holdfast.schema import Parameters
from holdfast.services import FILES
from holdfast.store import digest_of
from holdfast.tool import Tool
from tests.layers import CONFIGS, PARAMETERS, nothing, permit, silent

NAMES = Registry(
    drivers={"sim": Sim.always("hi"), "other": Sim.always("hi")},
    capabilities={name: lambda config: Capability(name="any") for name in ("a", "b", "c")},
)


def manifest(*configs: Config) -> Manifest:
    layers = [Layer(name=f"layer {place}", config=config) for place, config in enumerate(configs)]
    return resolve(layers, names=NAMES, lent=frozenset((FILES,)))


def described(config: Config) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(manifest(BASE, config).document)
    return found


PAY = Tool(
    name="pay",
    description="Pay.",
    parameters=Parameters(
        {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}
    ),
    run=nothing,
    effect="idempotent",
    timeout=5.0,
)
GUARD = Hook(id="g", point="before_tool", run=silent)
OPS = Policy(name="ops", decide=permit)
MCP = McpServer(name="db", command=("serve", "--all"), environment={"TOKEN": "hunter2", "MODE": "hunter3"})
BASE = Config(
    instructions="Be brief.",
    model="sim/a",
    settings=Settings(temperature=0.5),
    capabilities=(CapabilityRef(name="a", config={"x": 1, "y": {"p": 1, "q": 2}}),),
    tools=(PAY,),
    files=(SeedFile(path="/a", content="1"),),
    mcp_servers=(MCP,),
    hooks=(GUARD,),
    policies=(OPS,),
    network=NetworkAccess(allowed=("*.a.test",), blocked=("x.a.test",)),
    limits=Limits(max_iterations=5, turn_timeout=60.0),
    parallel_calls=True,
    locale="de",
)


def test_the_digest_is_the_hash_of_canonical_json() -> None:
    found = manifest(BASE)
    assert found.digest == digest_of(found.document)
    text = found.document.decode()
    canonical = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert text == canonical


def test_the_digest_of_this_manifest_never_changes() -> None:
    # When it does, every session in every log seems to have changed its behaviour. If behaviour is now
    # described better, say so in the changelog.
    assert manifest(BASE).digest == GOLDEN


GOLDEN = "sha256:7f5369fa41852736df1616368bd410bc368eb7f8647997080aa9813c979fc1d8"

PROGRAM = "from tests.test_manifest import BASE, manifest; print(manifest(BASE).digest)"


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_the_digest_is_the_same_in_every_process(seed: str) -> None:
    root = Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == manifest(BASE).digest


def test_the_order_in_which_keys_were_written_does_not_matter() -> None:
    turned = Parameters({"properties": {"b": {"type": "string"}, "a": {"type": "integer"}}, "type": "object"})
    other = structs.replace(
        BASE,
        tools=(structs.replace(PAY, parameters=turned),),
        capabilities=(CapabilityRef(name="a", config={"y": {"q": 2, "p": 1}, "x": 1}),),
        mcp_servers=(McpServer(name="db", command=MCP.command, environment={"MODE": "", "TOKEN": ""}),),
    )
    assert manifest(other).digest == manifest(BASE).digest


CHANGES: dict[str, Config] = {
    "model": Config(model="sim/b"),
    "vendor": Config(model="other/a"),
    "instructions": Config(instructions="Be kind."),
    "temperature": Config(settings=Settings(temperature=0.0)),
    "tool choice": Config(settings=Settings(tool_choice="required")),
    "stop words": Config(settings=Settings(stop=("x",))),
    "continuation": Config(settings=Settings(continue_responses=True)),
    "capability": Config(capabilities=(CapabilityRef(name="b"),)),
    "capability configuration": Config(capabilities=(CapabilityRef(name="a", config={"x": 2}),)),
    "one more tool": Config(tools=(structs.replace(PAY, name="pay_2"),)),
    "tool description": Config(tools=(structs.replace(PAY, description="Pay now."),)),
    "tool schema": Config(tools=(structs.replace(PAY, parameters=PARAMETERS),)),
    "tool effect": Config(tools=(structs.replace(PAY, effect="once"),)),
    "tool timeout": Config(tools=(structs.replace(PAY, timeout=6.0),)),
    "tool lane": Config(tools=(structs.replace(PAY, lane="bank"),)),
    "tool ask": Config(tools=(structs.replace(PAY, ask=True),)),
    "file": Config(files=(SeedFile(path="/b", content="1"),)),
    "file content": Config(files=(SeedFile(path="/a", content="2"),)),
    "file right": Config(files=(SeedFile(path="/a", content="1", read_only=True),)),
    "MCP server": Config(mcp_servers=(McpServer(name="db", url="https://db.test"),)),
    "MCP environment name": Config(mcp_servers=(McpServer(name="db", command=MCP.command),)),
    "hook": Config(hooks=(replace(GUARD, id="h"),)),
    "hook point": Config(hooks=(replace(GUARD, point="after_tool"),)),
    "hook guard": Config(hooks=(replace(GUARD, guard=True),)),
    "hook timeout": Config(hooks=(replace(GUARD, timeout=1.0),)),
    "hook original": Config(hooks=(replace(GUARD, keep_original=True),)),
    "hook muted": Config(muted_hooks=(GUARD.id,)),
    "policy": Config(policies=(structs.replace(OPS, name="dev"),)),
    "policy timeout": Config(policies=(structs.replace(OPS, timeout=1.0),)),
    "network allowed": Config(network=NetworkAccess(allowed=("b.a.test",))),
    "network blocked": Config(network=NetworkAccess(blocked=("y.a.test",))),
    "iterations": Config(limits=Limits(max_iterations=6)),
    "turn timeout": Config(limits=Limits(turn_timeout=61.0)),
    "tool timeout limit": Config(limits=Limits(tool_timeout=299.0)),
    "concurrency": Config(limits=Limits(tool_concurrency=31)),
    "routes": Config(model=["sim/a", "sim/b"]),
    "retry time": Config(limits=Limits(retry_timeout=1.0)),
    "retries": Config(limits=Limits(model_retries=1)),
    "result bytes": Config(limits=Limits(result_bytes=65_535)),
    "parallel calls": Config(parallel_calls=False),
    "locale": Config(locale="en"),
}


def test_whatever_changes_behaviour_changes_the_digest_and_each_change_its_own() -> None:
    digests = {"base": manifest(BASE).digest}
    digests |= {name: manifest(BASE, change).digest for name, change in CHANGES.items()}
    same = [pair for pair in itertools.combinations(digests, 2) if digests[pair[0]] == digests[pair[1]]]
    assert same == []


def test_every_part_of_the_description_has_a_change_that_moves_it() -> None:
    base = described(Config())
    moved = {
        key for change in CHANGES.values() for key, value in described(change).items() if value != base[key]
    }
    assert moved == set(base)
    limits = {
        key
        for change in CHANGES.values()
        for key, value in described(change)["limits"].items()
        if value != base["limits"][key]
    }
    assert limits == set(base["limits"])


WHERE_SET = {
    "approver",
    "asks_per_minute",
    "budgets",
    "compaction",
    "guards",
    "output",
    "rates",
    "repeated_calls",
    "rules",
    "taint",
}
"""Described only where they are set, so that manifests without them keep their digests."""
FOLLOWS = {"charter", "summariser", "written"}
"""Made of what is described."""


GUARDED = Guard(id="tone", words=("darn",))
GUARDS: list[dict[str, Any]] = [
    {"id": "other"},
    {"where": "output"},
    {"words": ("drat",)},
    {"expressions": ("x",)},
    {"action": "log"},
    {"code": "house"},
    {"reason": "be kind"},
    {"answer": "No."},
    {"retries": 1},
    {"tools": "a*"},
    {"window": 9},
]


def test_each_part_of_a_guard_moves_the_digest() -> None:
    found = [GUARDED, *[structs.replace(GUARDED, **change) for change in GUARDS]]
    found += [
        structs.replace(GUARDED, where="output", check=watch),
        structs.replace(GUARDED, where="output", check=watch, timeout=1.0),
    ]
    digests = {manifest(BASE, Config(guards=(guard,))).digest for guard in found}
    assert len(digests | {manifest(BASE).digest}) == len(found) + 1


async def watch(seen: Seen) -> bool:
    """A guard's function that finds nothing."""
    return False


def test_the_description_holds_every_field_that_changes_behaviour() -> None:
    fields = set(Manifest.__struct_fields__) - {"routes", "origins"} - WHERE_SET - FOLLOWS | {"model"}
    limits = set(described(Config())["limits"])
    assert fields == (set(described(Config())) - {"limits"}) | limits


SPLITS: list[tuple[Config, ...]] = [
    (BASE,),
    (Config(), BASE, Config()),
    (
        structs.replace(BASE, instructions=None, tools=(), limits=Limits(turn_timeout=60.0)),
        Config(instructions=" Be brief.\n", tools=(PAY,), limits=Limits(max_iterations=5)),
    ),
    (
        Config(
            model="sim/z", locale="fr", tools=(structs.replace(PAY, effect="pure"),), parallel_calls=False
        ),
        Config(files=(SeedFile(path="/a", content="old"),), settings=Settings(temperature=1.0)),
        BASE,
    ),
    (Config(network=NetworkAccess(allowed=("*.a.test", "b.test"))), BASE, Config(network=NetworkAccess())),
]


@pytest.mark.parametrize("layers", SPLITS, ids=range(len(SPLITS)))
def test_the_same_behaviour_layered_differently_has_the_same_digest(layers: tuple[Config, ...]) -> None:
    assert manifest(*layers).digest == manifest(BASE).digest


@given(st.lists(CONFIGS, min_size=1, max_size=4), st.data())
def test_merging_neighbouring_layers_first_never_changes_the_digest(
    layers: list[Config], data: st.DataObject
) -> None:
    layers.insert(0, Config(model="sim/a"))
    place = data.draw(st.integers(0, len(layers) - 2))
    merged = [*layers[:place], merge(layers[place], layers[place + 1]), *layers[place + 2 :]]
    assert manifest(*merged).digest == manifest(*layers).digest


def test_who_set_a_value_is_explained_and_does_not_change_the_digest() -> None:
    one, two = manifest(BASE), manifest(Config(), BASE)
    assert one.explain() != two.explain()
    assert one.digest == two.digest


def test_no_credential_is_described_explained_or_shown() -> None:
    driver = OpenAIChat(api_key="hunter4", headers={"x-key": "hunter5"})
    registry = Registry(drivers={"llm": driver})
    layer = Layer(name="agent", config=structs.replace(BASE, model="llm/a", capabilities=()))
    found = resolve([layer], names=registry)
    for shown in (
        found.document.decode(),
        repr(found.describe()),
        repr(found.explain()),
        repr(found),
        str(layer),
    ):
        assert "hunter" not in shown
    assert json.loads(found.document)["mcp_servers"][0]["environment"] == ["MODE", "TOKEN"]


def test_the_content_of_files_is_named_and_not_repeated() -> None:
    long = "line\n" * 10_000
    found = manifest(BASE, Config(files=(SeedFile(path="/long", content=long),)))
    assert len(found.document) < 5_000
    assert {"path": "/long", "digest": digest_of(long.encode()), "read_only": False} in found.describe()[
        "files"
    ]


def test_the_tools_are_advertised_as_one_tuple_that_a_driver_may_keep() -> None:
    found = manifest(BASE)
    assert found.specs is found.specs
    assert [spec.name for spec in found.specs] == ["pay"]


def test_a_manifest_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        manifest(BASE).model = "sim/b"  # type: ignore[misc]
