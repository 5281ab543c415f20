"""Configuration layers: one rule for each field, and layers that may be merged in any grouping."""

from functools import reduce
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.approver import Approver
from holdfast.budget import Budget, Rate
from holdfast.capability import Capability, CapabilityRef, SeedFile
from holdfast.config import (
    CONFIG_FIELDS,
    DEFAULT_LIMITS,
    RULES,
    Config,
    Layer,
    Limits,
    McpServer,
    append_text,
    is_set,
    merge,
)
from holdfast.driver import Settings
from holdfast.drivers.sim import Sim
from holdfast.errors import ConfigError
from holdfast.guard import Guard
from holdfast.network import NetworkAccess, permits
from holdfast.rules import Rule, Taint
from tests.layers import CONFIGS, HOOKS, POLICIES, TOOLS, URLS

A1, A2, B1, _, C1, _ = TOOLS
FILE_A, FILE_A2 = SeedFile(path="/a", content="1"), SeedFile(path="/a", content="2", read_only=True)
FILE_B, FILE_C = SeedFile(path="/b", content="1"), SeedFile(path="/c", content="1")
REF_A, REF_A2 = CapabilityRef(name="a"), CapabilityRef(name="a", config={"x": 1})
REF_B, REF_C = CapabilityRef(name="b"), CapabilityRef(name="c")
SERVER_A, SERVER_A2 = McpServer(name="a", command=("x",)), McpServer(name="a", url="https://a.test")
SERVER_B = McpServer(name="b", command=("y",))
SIM = Sim.always("hi")
RULE_A, RULE_A2 = Rule(id="a", decision="deny"), Rule(id="a", decision="allow", arguments={"x": "1"})
RULE_B = Rule(id="b", decision="ask", destinations=("example.com",))

FEW = Budget(scope="turn", quantity="tokens", hard=100)
FEWER = Budget(scope="turn", quantity="tokens", hard=10, soft=5)
MANY = Budget(scope="session", quantity="tokens", hard=1_000)
ASKED = Approver(name="desk", decide=lambda ask: None)  # type: ignore[arg-type,return-value]
ALSO_ASKED = Approver(name="night", decide=lambda ask: None)  # type: ignore[arg-type,return-value]
SLOW = Rate(tool="look", calls=1, per=60.0)
GUARD_A, GUARD_A2 = Guard(id="a", words=("x",)), Guard(id="a", words=("y",))
GUARD_B = Guard(id="b", words=("x",))

CASES: list[tuple[str, Any, Any, Any]] = [
    # by key: the whole entry is replaced where it stood
    ("budgets", (FEW, MANY), (FEWER,), (FEWER, MANY)),
    ("rates", (SLOW,), (), (SLOW,)),
    # append: both texts, trimmed, a blank line between
    ("instructions", "House rules.\n", "\n  Be brief. ", "House rules.\n\nBe brief."),
    ("instructions", None, " Be brief. ", "Be brief."),
    ("instructions", " \n", "Be brief.", "Be brief."),
    ("instructions", "House rules.", None, "House rules."),
    ("instructions", "", " ", None),
    # topmost: the highest layer that sets it
    ("approver", ASKED, ALSO_ASKED, ALSO_ASKED),
    ("approver", ASKED, None, ASKED),
    ("model", "sim/a", "sim/b", "sim/b"),
    ("model", "sim/a", None, "sim/a"),
    ("model", "sim/a", SIM, SIM),
    ("parallel_calls", True, False, False),
    ("parallel_calls", False, None, False),
    ("locale", "de", "en-GB", "en-GB"),
    ("locale", None, "de", "de"),
    # topmost, each of its fields on its own
    ("settings", Settings(top_p=1.0, max_tokens=5), Settings(top_p=0.0), Settings(top_p=0.0, max_tokens=5)),
    ("settings", Settings(stop=("x",)), Settings(top_p=0.5), Settings(stop=("x",), top_p=0.5)),
    ("settings", Settings(stop=("x",)), Settings(stop=("y",)), Settings(stop=("y",))),
    ("limits", Limits(model_retries=5, tool_timeout=1), Limits(model_retries=9),
     Limits(model_retries=9, tool_timeout=1)),
    ("limits", None, Limits(model_retries=0), Limits(model_retries=0)),
    ("limits", Limits(model_retries=3), Limits(model_retries=0), Limits(model_retries=0)),
    # by key: the whole entry, where the old one stood; new ones come last
    ("files", (FILE_A, FILE_B), (FILE_C, FILE_A2), (FILE_A2, FILE_B, FILE_C)),
    ("files", (FILE_A, FILE_A2), (), (FILE_A2,)),
    ("capabilities", (REF_A, REF_B), (REF_C, REF_A2), (REF_A2, REF_B, REF_C)),
    ("capabilities", (REF_A2,), (REF_A,), (REF_A,)),
    ("mcp_servers", (SERVER_A, SERVER_B), (SERVER_A2,), (SERVER_A2, SERVER_B)),
    # last by name: appended; of two with one name the later stays, at its later place
    ("tools", (A1, B1), (C1, A2), (B1, C1, A2)),
    ("tools", (A1, B1, A2), (), (B1, A2)),
    ("hooks", (HOOKS[0], HOOKS[2]), (HOOKS[1],), (HOOKS[2], HOOKS[1])),
    ("guards", (GUARD_A, GUARD_B), (GUARD_A2,), (GUARD_B, GUARD_A2)),
    ("policies", (POLICIES[0], POLICIES[2]), (POLICIES[1],), (POLICIES[2], POLICIES[1])),
    # all: those of every layer, each once
    ("rules", (RULE_A, RULE_B), (RULE_A2, RULE_A), (RULE_A, RULE_B, RULE_A2)),
    ("muted_hooks", ("a", "b"), ("c", "a"), ("a", "b", "c")),
    ("taint", Taint(decision="deny"), Taint(inputs=("untrusted",)), Taint(inputs=("untrusted",))),
    ("taint", Taint(decision="deny"), None, Taint(decision="deny")),
    # narrow: allowed intersected, blocked united
    ("network", None, NetworkAccess(allowed=()), NetworkAccess(allowed=())),
    ("network", NetworkAccess(allowed=("a.test",)), None, NetworkAccess(allowed=("a.test",))),
    ("network", NetworkAccess(allowed=("*.a.test",), blocked=("x.test",)),
     NetworkAccess(allowed=("b.a.test", "c.test"), blocked=("y.test",)),
     NetworkAccess(allowed=("b.a.test",), blocked=("x.test", "y.test"))),
    ("network", NetworkAccess(allowed=("a.test",)), NetworkAccess(allowed=("b.test",)), NetworkAccess(allowed=())),
]  # fmt: skip


@pytest.mark.parametrize(("field", "below", "above", "merged"), CASES, ids=range(len(CASES)))
def test_a_field_merges_by_its_rule_and_leaves_the_others_alone(
    field: str, below: Any, above: Any, merged: Any
) -> None:
    assert merge(Config(**{field: below}), Config(**{field: above})) == Config(**{field: merged})


def test_every_field_has_a_rule_and_every_rule_a_case() -> None:
    assert set(RULES) == set(CONFIG_FIELDS) == {field for field, *_ in CASES}


@settings(max_examples=300)
@given(CONFIGS, CONFIGS, CONFIGS)
def test_layers_may_be_merged_in_any_grouping(a: Config, b: Config, c: Config) -> None:
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@given(CONFIGS)
def test_a_layer_that_says_nothing_changes_nothing(layer: Config) -> None:
    alone = merge(Config(), layer)
    assert merge(alone, Config()) == merge(Config(), alone) == alone
    assert merge(layer, Config()) == alone


@settings(max_examples=300)
@given(CONFIGS, CONFIGS)
def test_network_access_only_narrows_to_exactly_what_both_layers_let_through(a: Config, b: Config) -> None:
    merged = merge(a, b).network or NetworkAccess()
    for url in URLS:
        both = permits(a.network or NetworkAccess(), url) and permits(b.network or NetworkAccess(), url)
        assert permits(merged, url) is both


@given(st.lists(CONFIGS, min_size=1, max_size=5))
def test_no_layer_above_opens_what_one_below_has_closed(layers: list[Config]) -> None:
    merged = reduce(merge, layers, Config()).network or NetworkAccess()
    for layer in layers:
        assert layer.network is None or all(
            permits(layer.network, url) for url in URLS if permits(merged, url)
        )


@given(st.lists(CONFIGS, max_size=4))
def test_entries_by_key_stand_where_they_first_stood_with_what_was_said_last(layers: list[Config]) -> None:
    merged = reduce(merge, layers, Config())
    for field, key in (("files", "path"), ("capabilities", "name"), ("mcp_servers", "name")):
        said = {getattr(entry, key): entry for layer in layers for entry in getattr(layer, field)}
        assert getattr(merged, field) == tuple(said.values())


@given(st.lists(CONFIGS, max_size=4))
def test_of_tools_hooks_and_policies_of_one_name_the_last_stays_in_its_place(layers: list[Config]) -> None:
    merged = reduce(merge, layers, Config())
    for field, key in (("tools", "name"), ("hooks", "id"), ("policies", "name")):
        said = [entry for layer in layers for entry in getattr(layer, field)]
        last = {getattr(entry, key): place for place, entry in enumerate(said)}
        assert getattr(merged, field) == tuple(said[place] for place in sorted(last.values()))


@given(CONFIGS, CONFIGS)
def test_merging_leaves_both_layers_as_they_were(a: Config, b: Config) -> None:
    before = repr(a), repr(b)
    merge(a, b)
    assert (repr(a), repr(b)) == before


def test_a_layer_knows_what_it_sets() -> None:
    layer = Config(instructions="", parallel_calls=False, network=NetworkAccess())
    assert [name for name in CONFIG_FIELDS if is_set(layer, name)] == [
        "instructions",
        "network",
        "parallel_calls",
    ]


def test_text_is_appended_with_one_blank_line() -> None:
    assert append_text("a\n\n\n", "\n\nb") == "a\n\nb"
    assert append_text(None, None) is None


def test_the_defaults_of_the_limits_are_those_in_their_docstrings() -> None:
    assert (
        Limits(
            max_iterations=100,
            turn_timeout=None,
            tool_timeout=300.0,
            tool_concurrency=32,
            model_retries=2,
            retry_timeout=300.0,
            result_bytes=65_536,
            repeated_calls=5,
            asks_per_minute=60,
        )
        == DEFAULT_LIMITS
    )


@pytest.mark.parametrize("it", [len, "add", None])
def test_a_function_that_is_no_tool_is_refused_where_the_layer_is_made(it: Any) -> None:
    with pytest.raises(ConfigError, match=r"is not a tool; make one of a function with @tool"):
        Config(tools=(it,))


def test_a_capability_object_takes_the_place_of_a_reference_of_its_name() -> None:
    own = Capability(name="a", instructions="Mine.")
    merged = merge(Config(capabilities=(REF_A, REF_B)), Config(capabilities=(own,)))
    assert merged.capabilities == (own, REF_B)


def test_the_environment_of_an_mcp_server_is_shown_by_its_names_only() -> None:
    server = McpServer(name="db", command=("serve",), environment={"TOKEN": "hunter2", "A": "hunter3"})
    layer = Layer(name="agent a", config=Config(mcp_servers=(server,)))
    for shown in (repr(server), str(server), f"{layer}", f"{layer.config!r}"):
        assert "hunter" not in shown
        assert "environment=<A, TOKEN>" in shown
