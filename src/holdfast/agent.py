"""Harness and agent: named configuration layers, root to leaf.

desk = Harness("House rules.", name="desk")
agent = Agent("You answer questions about refunds.", name="refunds", model="openai-chat/gpt-5-mini", tools=[refund])
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import msgspec

from holdfast.budget import Budget, Rate
from holdfast.capability import Capability, CapabilityRef, SeedFile
from holdfast.config import Config, Layer, Limits, Models, merge, models_in
from holdfast.driver import Settings
from holdfast.errors import ConfigError
from holdfast.guard import Guard
from holdfast.manifest import Origin
from holdfast.network import NetworkAccess
from holdfast.rules import Rule, Taint
from holdfast.tool import Tool
from holdfast.watching.filters import Filter

Capabilities = Iterable[str | CapabilityRef | Capability]
"""Capabilities by name, by name with a configuration, or as they are."""


def _config(
    instructions: str,
    model: Models | None,
    tools: Iterable[Tool],
    capabilities: Capabilities,
    limits: Limits | None,
    config: Config | None,
) -> Config:
    _check(instructions, tools, capabilities, limits, config)
    named = tuple(CapabilityRef(name=it) if isinstance(it, str) else it for it in capabilities)
    given = Config(
        instructions=instructions or None, model=model, tools=tuple(tools), capabilities=named, limits=limits
    )
    return merge(config, given) if config is not None else given


def _check(instructions: object, tools: object, capabilities: object, limits: object, config: object) -> None:
    """Raise `ConfigError` for what is easily given in place of what is meant."""
    if not isinstance(instructions, str):
        raise ConfigError(f"instructions are text, not {instructions!r}")
    if isinstance(tools, Tool):
        raise ConfigError(f"tools are a list of tools, not one: write tools=[{tools.name}]")
    if not isinstance(tools, Iterable):
        raise ConfigError(f"tools are a list of tools, not {tools!r}: write tools=[...]")
    if isinstance(capabilities, (str, CapabilityRef, Capability)) or not isinstance(capabilities, Iterable):
        raise ConfigError(f"capabilities are a list of them, not {capabilities!r}: write capabilities=[...]")
    if not isinstance(limits, Limits | None):
        raise ConfigError(f"limits are Limits(...), not {limits!r}")
    if not isinstance(config, Config | None):
        raise ConfigError(f"config is a Config(...), not {config!r}")


class Agent:
    """A configuration layer: who does the work. It holds no state and may serve any number of sessions.

    `instructions` say what it is for; `name` stands in logs and is how a session finds its agent again; `model` is
    `vendor/name` or a driver, or several of them to fall back on in this order; further fields of a layer come in
    `config`, below what is given here.
    """

    def __init__(
        self,
        instructions: str = "",
        *,
        name: str = "agent",
        model: Models | None = None,
        tools: Iterable[Tool] = (),
        capabilities: Capabilities = (),
        limits: Limits | None = None,
        config: Config | None = None,
    ) -> None:
        self.name = name
        self.layers: tuple[Layer, ...] = (
            Layer(
                name=f"agent {name}", config=_config(instructions, model, tools, capabilities, limits, config)
            ),
        )

    def as_filter(self) -> Filter:
        """What a subscription to it is given: its sessions, which are known by its name."""
        return Filter(agents=(self.name,))

    def __repr__(self) -> str:
        return f"Agent(name={self.name!r})"


class Harness:
    """The ground an agent stands on: house rules, shared tools and limits. A harness may stand on a `parent`."""

    def __init__(
        self,
        instructions: str = "",
        *,
        name: str = "harness",
        parent: Harness | None = None,
        model: Models | None = None,
        tools: Iterable[Tool] = (),
        capabilities: Capabilities = (),
        limits: Limits | None = None,
        config: Config | None = None,
    ) -> None:
        self.name = name
        own = Layer(
            name=f"harness {name}", config=_config(instructions, model, tools, capabilities, limits, config)
        )
        self.layers: tuple[Layer, ...] = (*(parent.layers if parent else ()), own)

    def as_filter(self) -> Filter:
        """What a subscription to it is given: sessions that stand on it directly."""
        return Filter(harnesses=(self.name,))

    def __repr__(self) -> str:
        return f"Harness(name={self.name!r})"


class _Portable(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What of a layer can be written down; functions cannot, so they are only named."""

    name: str
    instructions: str | None = None
    model: str | tuple[str, ...] | None = None
    capabilities: tuple[CapabilityRef, ...] = ()
    settings: Settings | None = None
    files: tuple[SeedFile, ...] = ()
    network: NetworkAccess | None = None
    limits: Limits | None = None
    parallel_calls: bool | None = None
    locale: str | None = None
    rules: tuple[Rule, ...] = ()
    taint: Taint | None = None
    budgets: tuple[Budget, ...] = ()
    rates: tuple[Rate, ...] = ()
    muted_hooks: tuple[str, ...] = ()
    guards: tuple[dict[str, Any], ...] = ()
    functions: tuple[str, ...] = ()
    """Tools, hooks, policies, approvers, unnamed drivers and capabilities: the program itself must give them back."""


_PLAIN = (
    "settings",
    "files",
    "network",
    "limits",
    "parallel_calls",
    "locale",
    "rules",
    "taint",
    "budgets",
    "rates",
    "muted_hooks",
)


class _Written(msgspec.Struct, kw_only=True):
    """The layers of a session, and which of them set what."""

    layers: list[_Portable]
    origins: tuple[Origin, ...]


def write_layers(layers: Iterable[Layer], origins: tuple[Origin, ...] = ()) -> bytes:
    """The layers as JSON, as far as they can be written; with `origins`, also what they were found to set."""
    found = [_portable(layer) for layer in layers]
    return msgspec.json.encode(_Written(layers=found, origins=origins) if origins else found)


def _portable(layer: Layer) -> _Portable:
    config = layer.config
    functions = [f"tool {tool.name}" for tool in config.tools]
    functions += [f"hook {hook.id}" for hook in config.hooks] + [
        f"policy {policy.name}" for policy in config.policies
    ]
    functions += [f"guard {guard.id}" for guard in config.guards if guard.check is not None]
    functions += [f"approver {it.name}" for it in (config.approver,) if it is not None]
    functions += [f"MCP server {server.name}" for server in config.mcp_servers]
    functions += [f"capability {it.name}" for it in config.capabilities if isinstance(it, Capability)]
    models = models_in(config.model)
    functions += [f"driver {model.wire}" for model in models if not isinstance(model, str)]
    named = tuple(model for model in models if isinstance(model, str))
    return _Portable(
        name=layer.name,
        instructions=config.instructions,
        model=(named if len(named) > 1 else named[0]) if named and len(named) == len(models) else None,
        capabilities=tuple(it for it in config.capabilities if isinstance(it, CapabilityRef)),
        functions=tuple(functions),
        guards=tuple(guard.written() for guard in config.guards if guard.check is None),
        **{name: getattr(config, name) for name in _PLAIN},
    )


def read_layers(body: bytes, without: Container[str] = ()) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    """The layers of this JSON, and the names of the functions that are missing from them.

    Those `without` are left out: `harness`, `agent`, `session`.
    """
    found = [it for it in _written(body).layers if it.name.partition(" ")[0] not in without]
    if any(it.functions for it in found):
        found = [_unchecked(it) for it in found]
    layers = [
        Layer(
            name=it.name,
            config=Config(
                instructions=it.instructions,
                model=it.model,
                capabilities=it.capabilities,
                guards=tuple(Guard(**guard) for guard in it.guards),
                **{name: getattr(it, name) for name in _PLAIN},
            ),
        )
        for it in found
    ]
    return tuple(layers), tuple(name for it in found for name in it.functions)


def read_origins(body: bytes) -> tuple[Origin, ...]:
    """Which layers set what, as it was written down with them; empty where it was not."""
    return _written(body).origins


def _written(body: bytes) -> _Written:
    if body.startswith(b"["):
        return _Written(layers=msgspec.json.decode(body, type=list[_Portable]), origins=())
    return msgspec.json.decode(body, type=_Written)


def _unchecked(layer: _Portable) -> _Portable:
    """The layer without what could only be checked against all of its tools."""
    taint = layer.taint and msgspec.structs.replace(layer.taint, labels={})
    rules = tuple(msgspec.structs.replace(rule, optional=True) for rule in layer.rules)
    return msgspec.structs.replace(layer, rules=rules, taint=taint)
