"""Configuration layers and the one way they merge.

Layers stand from the root down: each harness of the chain, the agent, the session, the turn. `merge` puts one on
top of another; every field has exactly one rule, named in `RULES`:

    append        instructions: both texts, trimmed, with a blank line between
    by key        capabilities, files, MCP servers, budgets, rates: the whole entry is replaced where it stood; new ones
                  come last
    last by name  tools, hooks, policies, guards: appended; of two with one name the later stays
    all           rules, muted hooks: those of every layer, each once
    narrow        network: what is allowed is intersected, what is blocked united; it never widens
    topmost       everything else: the highest layer that sets it

Merging is associative: `merge(merge(a, b), c)` equals `merge(a, merge(b, c))`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, structs

from holdfast.approver import Approver
from holdfast.budget import Budget, Rate
from holdfast.capability import Capability, CapabilityRef, SeedFile
from holdfast.driver import Driver, Settings
from holdfast.errors import ConfigError, UnknownModel
from holdfast.guard import Guard
from holdfast.hook import Hook
from holdfast.network import NetworkAccess, narrow
from holdfast.policy import Policy, policy_of
from holdfast.rules import Rule, Taint
from holdfast.tool import Tool

T = TypeVar("T")

ModelRef = str | Driver
"""`vendor/name`, or a driver object to use as it is."""

Models = ModelRef | Sequence[ModelRef]
"""A model, or several: the next one is asked when the one before fails in a way that it may not."""


class Limits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bounds of a turn. Unset fields take the value of the layer below, at last the default given here."""

    max_iterations: int | None = None
    """Model calls per turn. Default 100."""
    turn_timeout: float | None = None
    """Seconds from the start of a turn to its end, waits included. Default: none."""
    tool_timeout: float | None = None
    """Seconds for one call of a tool that sets none itself. Default 300."""
    tool_concurrency: int | None = None
    """Calls of one turn that run at the same time. Default 32."""
    model_retries: int | None = None
    """Further attempts after a model call failed in a way that may pass. Default 2."""
    retry_timeout: float | None = None
    """Seconds from the first failure of a model call to the last attempt at it. Default 300."""
    result_bytes: int | None = None
    """Bytes of one result that the model reads; the whole is kept as a blob. Default 65,536."""
    repeated_calls: int | None = None
    """Replies with the same call and the same result, among the last 20 (four times as many) since somebody last spoke,
    after which the turn ends with stop `loop`. Default 5; 0 lets a model go round for ever."""
    asks_per_minute: int | None = None
    """Approvals and answers that a session may ask for within a minute of the clock; the calls that would ask for more
    are denied, and the model is told. Default 60; 0 sets no bound."""


DEFAULT_LIMITS = Limits(
    max_iterations=100,
    tool_timeout=300.0,
    tool_concurrency=32,
    model_retries=2,
    retry_timeout=300.0,
    result_bytes=65_536,
    repeated_calls=5,
    asks_per_minute=60,
)


class McpServer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An MCP server to connect to: a command to start, or a URL."""

    name: str
    command: tuple[str, ...] = ()
    url: str = ""
    environment: dict[str, str] = {}
    """May hold credentials: only the names are ever shown."""

    def __repr__(self) -> str:
        names = ", ".join(sorted(self.environment))
        return f"McpServer(name={self.name!r}, command={self.command!r}, url={self.url!r}, environment=<{names}>)"


class Config(Struct, frozen=True, kw_only=True):
    """One layer. Every field may be left unset."""

    instructions: str | None = None
    model: Models | None = None
    """`vendor/name`, or a driver object to use as it is; or several, to fall back on in this order."""
    settings: Settings | None = None
    capabilities: tuple[CapabilityRef | Capability, ...] = ()
    tools: tuple[Tool, ...] = ()
    files: tuple[SeedFile, ...] = ()
    mcp_servers: tuple[McpServer, ...] = ()
    hooks: tuple[Hook, ...] = ()
    muted_hooks: tuple[str, ...] = ()
    """Ids of hooks that are not asked, whoever brings them. One that is of no hook does nothing."""
    policies: tuple[Policy, ...] = ()
    guards: tuple[Guard, ...] = ()
    network: NetworkAccess | None = None
    limits: Limits | None = None
    parallel_calls: bool | None = None
    """False runs the calls of a batch one after another."""
    locale: str | None = None
    approver: Approver | None = None
    """Who is asked first when somebody must answer."""
    rules: tuple[Rule, ...] = ()
    """What may be done, as data. Every layer's count; the most specific wins, not the topmost."""
    taint: Taint | None = None
    """The taint rule; unset, it asks."""
    budgets: tuple[Budget, ...] = ()
    rates: tuple[Rate, ...] = ()

    def __post_init__(self) -> None:
        for tool in self.tools:
            if not isinstance(tool, Tool):
                raise ConfigError(f"{tool!r} is not a tool; make one of a function with @tool")
        if any(type(it) is not Policy for it in self.policies):
            structs.force_setattr(self, "policies", tuple(policy_of(it) for it in self.policies))


def models_in(model: Models | None) -> tuple[ModelRef, ...]:
    """The models that a layer names, in the order in which they are asked. Raises as `check_model`."""
    if model is None:
        return ()
    if isinstance(model, str) or not isinstance(model, Sequence):
        return (check_model(model),)
    return tuple(map(check_model, model))


def check_model(model: ModelRef) -> ModelRef:
    """The same. Raises `UnknownModel` for what is neither a name nor a driver."""
    if isinstance(model, str) or hasattr(model, "reply"):
        return model
    raise UnknownModel(f'a model is "vendor/name" or a driver object, not {model!r}')


class Layer(Struct, frozen=True, kw_only=True):
    """A configuration and whose it is, for `Manifest.explain()`."""

    name: str
    """Such as `harness desk`, `agent refunds`, `session`."""
    config: Config


def append_text(below: str | None, above: str | None) -> str | None:
    """Both texts, trimmed, with a blank line between; an empty one counts as absent."""
    parts = [text for text in ((below or "").strip(), (above or "").strip()) if text]
    return "\n\n".join(parts) or None


def topmost(below: T | None, above: T | None) -> T | None:
    """The upper value where it is set."""
    return below if above is None else above


def topmost_fields(below: Any, above: Any) -> Any:
    """For a struct of optional fields: the upper value of each field where it is set."""
    if below is None or above is None:
        return topmost(below, above)
    names = below.__struct_fields__
    values = {name: topmost(_set(getattr(below, name)), _set(getattr(above, name))) for name in names}
    return type(below)(**{name: value for name, value in values.items() if value is not None})


def _set(value: Any) -> Any:
    return None if value == () else value


def _by_key(key: str) -> Callable[[tuple[T, ...], tuple[T, ...]], tuple[T, ...]]:
    def merge_entries(below: tuple[T, ...], above: tuple[T, ...]) -> tuple[T, ...]:
        merged = {getattr(entry, key): entry for entry in below}
        merged.update({getattr(entry, key): entry for entry in above})
        return tuple(merged.values())

    return merge_entries


def _last_by(key: str) -> Callable[[tuple[T, ...], tuple[T, ...]], tuple[T, ...]]:
    def append_entries(below: tuple[T, ...], above: tuple[T, ...]) -> tuple[T, ...]:
        return last_wins((*below, *above), key)

    return append_entries


def last_wins(entries: Iterable[T], key: str) -> tuple[T, ...]:
    """The entries with duplicates removed; of two with one key the later stays, at its later place."""
    kept: dict[str, T] = {}
    for entry in entries:
        name = getattr(entry, key)
        kept.pop(name, None)
        kept[name] = entry
    return tuple(kept.values())


def _all(below: tuple[Rule, ...], above: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return tuple({msgspec.json.encode(rule): rule for rule in (*below, *above)}.values())


def _narrow(below: NetworkAccess | None, above: NetworkAccess | None) -> NetworkAccess | None:
    if below is None or above is None:
        return topmost(below, above)
    return narrow(below, above)


RULES: dict[str, Callable[[Any, Any], Any]] = {
    "instructions": append_text,
    "model": topmost,
    "settings": topmost_fields,
    "capabilities": _by_key("name"),
    "tools": _last_by("name"),
    "files": _by_key("path"),
    "mcp_servers": _by_key("name"),
    "hooks": _last_by("id"),
    "muted_hooks": lambda below, above: tuple(dict.fromkeys((*below, *above))),
    "policies": _last_by("name"),
    "guards": _last_by("id"),
    "network": _narrow,
    "limits": topmost_fields,
    "parallel_calls": topmost,
    "locale": topmost,
    "rules": _all,
    "taint": topmost,
    "budgets": _by_key("name"),
    "rates": _by_key("name"),
    "approver": topmost,
}
"""How each field of `Config` merges."""


def merge(below: Config, above: Config) -> Config:
    """One layer on top of another."""
    changes = {name: rule(getattr(below, name), getattr(above, name)) for name, rule in RULES.items()}
    return structs.replace(below, **changes)


def is_set(config: Config, name: str) -> bool:
    """Whether this layer says anything about this field."""
    return getattr(config, name) not in (None, ())


CONFIG_FIELDS: tuple[str, ...] = Config.__struct_fields__
