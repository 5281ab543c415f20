"""Configuration layers for hypothesis to draw: few names, so that layers meet."""

from __future__ import annotations

from hypothesis import strategies as st

from holdfast.capability import CapabilityRef, SeedFile
from holdfast.config import Config, Limits, McpServer
from holdfast.driver import Settings
from holdfast.hook import Allow, Decision, Hook, HookEvent
from holdfast.network import NetworkAccess
from holdfast.policy import Action, Policy
from holdfast.schema import Parameters
from holdfast.tool import Context, Tool


async def silent(event: HookEvent) -> None:
    """A hook that says nothing."""


async def permit(action: Action) -> Decision:
    """A policy that allows."""
    return Allow()


async def nothing(ctx: Context, arguments: object) -> None:
    """A tool that does nothing."""


NAMES = ("a", "b", "c")
PARAMETERS = Parameters({"type": "object"})
TOOLS = [
    Tool(name=name, description=f"{name} {version}", parameters=PARAMETERS, run=nothing)
    for name in NAMES
    for version in (1, 2)
]
HOOKS = [Hook(id=n, point="after_turn", run=silent, timeout=t) for n in NAMES for t in (1.0, 2.0)]
POLICIES = [Policy(name=name, decide=permit, timeout=t) for name in NAMES for t in (1.0, 2.0)]
REFS = [CapabilityRef(name=name, config=config) for name in NAMES for config in ({}, {"x": 1})]
FILES = [SeedFile(path=f"/{name}", content=text) for name in NAMES for text in ("1", "2")]
SERVERS = [McpServer(name=name, command=(text,)) for name in NAMES for text in ("1", "2")]
RULES = [
    "example.com",
    "*.example.com",
    "https://example.com/v1/",
    "https://example.com/v1/a",
    "a.test",
    "10.0.0.1",
]
URLS = [
    "https://example.com/",
    "https://example.com/v1/a",
    "https://example.com/v1/b/c",
    "http://example.com/v1/a",
    "https://api.example.com/v1/",
    "https://a.test/x",
    "http://10.0.0.1/",
    "https://other.test/",
]

RULE_LISTS = st.lists(st.sampled_from(RULES), max_size=3, unique=True).map(tuple)
NETWORKS = st.builds(NetworkAccess, allowed=st.none() | RULE_LISTS, blocked=RULE_LISTS)
NUMBERS = st.none() | st.integers(1, 3)
TEXTS = st.none() | st.sampled_from(["", "  ", "A", " B\n", "C\n\nD", "\tE"])


def some(pool: list[object]) -> st.SearchStrategy[tuple[object, ...]]:
    """Up to three of these, perhaps of one name."""
    return st.lists(st.sampled_from(pool), max_size=3).map(tuple)


CONFIGS = st.builds(
    Config,
    instructions=TEXTS,
    model=st.none() | st.sampled_from(["sim/a", "sim/b"]),
    settings=st.none()
    | st.builds(
        Settings,
        temperature=st.none() | st.sampled_from([0.0, 1.0]),
        max_tokens=NUMBERS,
        parallel_calls=st.none() | st.booleans(),
        stop=st.sampled_from([(), ("x",), ("y", "z")]),
    ),
    capabilities=some(REFS),
    tools=some(TOOLS),
    files=some(FILES),
    mcp_servers=some(SERVERS),
    hooks=some(HOOKS),
    policies=some(POLICIES),
    network=st.none() | NETWORKS,
    limits=st.none() | st.builds(Limits, max_iterations=NUMBERS, turn_timeout=NUMBERS, model_retries=NUMBERS),
    parallel_calls=st.none() | st.booleans(),
    locale=st.none() | st.sampled_from(["de", "en-GB"]),
)
