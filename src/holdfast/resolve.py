"""Resolve: from configuration layers to a manifest.

    manifest = resolve(layers, names=registry, lent=scope.keys())

Nothing is looked up later: an unknown model or capability, a circle of capabilities or a missing service is an error
here, never mid-turn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import reduce
from typing import Any, Protocol

import msgspec

from holdfast.capability import Capability, CapabilityRef, SeedFile
from holdfast.config import (
    CONFIG_FIELDS,
    DEFAULT_LIMITS,
    Config,
    Layer,
    Limits,
    McpServer,
    append_text,
    is_set,
    last_wins,
    merge,
    topmost_fields,
)
from holdfast.driver import Driver, Settings
from holdfast.errors import CapabilityCycle, ConfigError, MissingService, UnknownModel
from holdfast.manifest import Manifest, Origin
from holdfast.network import NetworkAccess
from holdfast.services import Key
from holdfast.tool import Tool

MAX_CAPABILITIES = 100


class Names(Protocol):
    """Where names become things; the registry is one."""

    def driver(self, model: str) -> tuple[Driver, str]:
        """The driver for `vendor/name` and the provider's own name. Raises `UnknownModel`."""
        ...

    def capability(self, ref: CapabilityRef) -> Capability:
        """The capability. Raises `UnknownCapability`, or `ConfigError` for a configuration that does not fit."""
        ...


def resolve(layers: Sequence[Layer], *, names: Names, lent: Collection[Key[Any]] = ()) -> Manifest:
    """Fold the layers, expand capabilities, look every name up, freeze.

    `lent` are the services the session has. Raises `ConfigError` (`UnknownModel`, `UnknownCapability`,
    `CapabilityCycle`, `MissingService`) naming the layer or capability to mend.
    """
    config = reduce(merge, [layer.config for layer in layers], Config())
    capabilities = _expand(config.capabilities, names)
    driver, model, model_name = _route(config.model, names)
    tools = last_wins([tool for cap in capabilities for tool in cap.tools] + list(config.tools), "name")
    _check_services(tools, capabilities, lent)
    limits: Limits = topmost_fields(DEFAULT_LIMITS, config.limits)
    return Manifest(
        model=model,
        driver=driver,
        model_name=model_name,
        instructions=_instructions(config, capabilities),
        settings=config.settings or Settings(),
        tools={tool.name: tool for tool in tools},
        capabilities=tuple(_ref(cap, config) for cap in capabilities),
        files=last_wins([file for cap in capabilities for file in cap.files] + list(config.files), "path"),
        mcp_servers=config.mcp_servers,
        hooks=tuple([hook for cap in capabilities for hook in cap.hooks]) + config.hooks,
        policies=tuple([policy for cap in capabilities for policy in cap.policies]) + config.policies,
        network=config.network or NetworkAccess(),
        max_iterations=_positive(limits.max_iterations, "max_iterations"),
        turn_timeout=limits.turn_timeout and _positive(limits.turn_timeout, "turn_timeout"),
        tool_timeout=_positive(limits.tool_timeout, "tool_timeout"),
        tool_concurrency=_positive(limits.tool_concurrency, "tool_concurrency"),
        model_retries=limits.model_retries or 0,
        result_bytes=_positive(limits.result_bytes, "result_bytes"),
        parallel_calls=config.parallel_calls is not False,
        locale=config.locale or "",
        origins=tuple(_origins(layers, capabilities)),
    )


def _positive(value: Any, name: str) -> Any:
    if not value or value < 0:
        raise ConfigError(f"limit {name} is {value!r}; it must be above 0 (leave it unset for the default)")
    return value


def _route(model: str | Driver | None, names: Names) -> tuple[Driver, str, str]:
    if model is None:
        raise UnknownModel(
            'no layer names a model; set one, such as Agent(..., model="openai-chat/gpt-5-mini") or Runtime(model=...)'
        )
    if not isinstance(model, str):
        return model, f"{model.wire}/", ""
    driver, name = names.driver(model)
    return driver, model, name


def _expand(refs: Iterable[CapabilityRef | Capability], names: Names) -> tuple[Capability, ...]:
    """Depth first, dependencies before dependents; an explicit configuration beats a dependency's empty one."""
    explicit = {ref.name: ref for ref in refs}
    done: dict[str, Capability] = {}

    def visit(name: str, chain: tuple[str, ...]) -> None:
        if name in chain:
            raise CapabilityCycle(
                f"capabilities depend on each other in a circle: {' -> '.join((*chain, name))}"
            )
        if name in done:
            return
        given = explicit.get(name) or CapabilityRef(name=name)
        capability = given if isinstance(given, Capability) else names.capability(given)
        for dependency in capability.depends:
            visit(dependency, (*chain, name))
        done[name] = capability
        if len(done) > MAX_CAPABILITIES:
            raise ConfigError(f"more than {MAX_CAPABILITIES} capabilities; the last was {name!r}")

    for name in explicit:
        visit(name, ())
    return tuple(done.values())


def _ref(capability: Capability, config: Config) -> CapabilityRef:
    explicit = {ref.name: ref for ref in config.capabilities if isinstance(ref, CapabilityRef)}
    return explicit.get(capability.name) or CapabilityRef(name=capability.name)


def _instructions(config: Config, capabilities: Iterable[Capability]) -> str:
    text = config.instructions
    for capability in capabilities:
        if capability.instructions.strip():
            part = f'<capability name="{capability.name}">\n{capability.instructions.strip()}\n</capability>'
            text = append_text(text, part)
    if config.locale:
        text = append_text(text, f"Answer in the user's language and locale: {config.locale}.")
    return text or ""


def _check_services(
    tools: Iterable[Tool], capabilities: Iterable[Capability], lent: Collection[Key[Any]]
) -> None:
    needs = [(f"capability {cap.name!r}", key) for cap in capabilities for key in cap.needs]
    needs += [(f"tool {tool.name!r}", key) for tool in tools for key in tool.needs]
    if missing := [f"{who} needs {key.name!r}" for who, key in needs if key not in lent]:
        raise MissingService(
            f"{'; '.join(missing)}; lend it with Runtime(services=...) or runtime.session(services=...)"
        )


_KEYED = {
    "capabilities": "name",
    "tools": "name",
    "files": "path",
    "mcp_servers": "name",
    "hooks": "id",
    "policies": "name",
}
_MERGED = ("instructions", "network")
_NESTED = ("limits", "settings")


def _origins(layers: Sequence[Layer], capabilities: Iterable[Capability]) -> Iterable[Origin]:
    """One origin per value. The last layer wins, but for merged fields every layer that set it had a part in it."""
    found: dict[str, Origin] = {}
    for layer in layers:
        for name in CONFIG_FIELDS:
            if is_set(layer.config, name):
                for field, value in _values(name, getattr(layer.config, name)):
                    before = found[field].layers if name in _MERGED and field in found else ()
                    found[field] = Origin(field=field, value=value, layers=(*before, layer.name))
    by_capability = [
        Origin(field=f"tools.{tool.name}", value=tool.description[:80], layers=(f"capability {cap.name}",))
        for cap in capabilities
        for tool in cap.tools
        if f"tools.{tool.name}" not in found
    ]
    defaults = [
        Origin(field=f"limits.{name}", value=str(value), layers=("default",))
        for name, value in msgspec.structs.asdict(DEFAULT_LIMITS).items()
        if value is not None and f"limits.{name}" not in found
    ]
    return [*found.values(), *by_capability, *defaults]


def _values(name: str, value: Any) -> Iterable[tuple[str, str]]:
    if key := _KEYED.get(name):
        return [(f"{name}.{getattr(entry, key)}", _short(entry)) for entry in value]
    if name in _NESTED:
        return [
            (f"{name}.{k}", str(v)) for k, v in msgspec.structs.asdict(value).items() if v not in (None, ())
        ]
    return [(name, _short(value))]


def _short(value: Any) -> str:
    if isinstance(value, Tool):
        return value.description[:80]
    if isinstance(value, CapabilityRef):
        return msgspec.json.encode(value.config).decode()
    if isinstance(value, SeedFile):
        return f"{len(value.content)} characters"
    if isinstance(value, McpServer):
        return value.url or " ".join(value.command)
    text = value if isinstance(value, str) else getattr(value, "wire", None) or repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
