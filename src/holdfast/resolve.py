"""Resolve: from configuration layers to a manifest.

    manifest = resolve(layers, names=registry, lent=scope.keys())

Nothing is looked up later: an unknown model or capability, a circle of capabilities or a missing service is an error
here, never mid-turn.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, NoReturn, Protocol

import msgspec

from holdfast.capability import Capability, CapabilityRef, Compaction, SeedFile
from holdfast.config import (
    CONFIG_FIELDS,
    DEFAULT_LIMITS,
    Config,
    Layer,
    Limits,
    McpServer,
    ModelRef,
    append_text,
    is_set,
    last_wins,
    merge,
    models_in,
    topmost_fields,
)
from holdfast.driver import Driver, Price, Settings
from holdfast.errors import CapabilityCycle, ConfigError, MissingService, UnknownCapability, UnknownModel
from holdfast.hook import Hook
from holdfast.manifest import Manifest, Origin, Route
from holdfast.network import NetworkAccess, check_rule
from holdfast.services import Key
from holdfast.tool import Tool

MAX_CAPABILITIES = 100

Lent = frozenset[Key[Any]]
"""The services that a session has."""


class Names(Protocol):
    """Where names become things; the registry is one."""

    def driver(self, model: str) -> tuple[Driver, str]:
        """The driver for `vendor/name` and the provider's own name. Raises `UnknownModel`."""
        ...

    def pricing(self, model: str, driver: Driver) -> Price:
        """How replies of this driver to a request for this model are priced."""
        ...

    def window(self, model: str, driver: Driver) -> int | None:
        """Tokens that this model can take in at most; None where that is not known."""
        ...

    def capability(self, ref: CapabilityRef) -> Capability:
        """The capability. Raises `UnknownCapability`, or `ConfigError` for a configuration that does not fit."""
        ...


def resolve(layers: Sequence[Layer], *, names: Names, lent: Lent = frozenset()) -> Manifest:
    """Fold the layers, expand capabilities, look every name up, freeze.

    `lent` are the services the session has. Raises `ConfigError` (`UnknownModel`, `UnknownCapability`,
    `CapabilityCycle`, `MissingService`) naming the layer or capability to mend.
    """
    config = reduce(merge, [layer.config for layer in layers], Config())
    _check_network(layers)
    expanded = _expand(layers, config.capabilities, names)
    capabilities = tuple(expanded.values())
    routes = tuple(_route(layers, model, names) for model in models_in(config.model)) or _no_model()
    tools = last_wins([tool for cap in capabilities for tool in cap.tools] + list(config.tools), "name")
    _check_services(tools, capabilities, lent)
    limits: Limits = topmost_fields(DEFAULT_LIMITS, config.limits)
    compaction = next((it.compaction for it in reversed(capabilities) if it.compaction is not None), None)
    manifest = Manifest(
        routes=_windowed(routes, compaction, names),
        compaction=compaction,
        summariser=_summariser(compaction, names),
        instructions=_instructions(config, capabilities),
        settings=config.settings or Settings(),
        tools={tool.name: tool for tool in tools},
        capabilities=tuple(_ref(name, config) for name in expanded),
        files=last_wins([file for cap in capabilities for file in cap.files] + list(config.files), "path"),
        mcp_servers=config.mcp_servers,
        hooks=_hooks(config, capabilities),
        policies=last_wins(
            [it for cap in capabilities for it in cap.policies] + list(config.policies), "name"
        ),
        guards=last_wins([it for cap in capabilities for it in cap.guards] + list(config.guards), "id"),
        network=config.network or NetworkAccess(),
        max_iterations=_positive(limits.max_iterations, "max_iterations"),
        turn_timeout=None if limits.turn_timeout is None else _positive(limits.turn_timeout, "turn_timeout"),
        tool_timeout=_positive(limits.tool_timeout, "tool_timeout"),
        tool_concurrency=_positive(limits.tool_concurrency, "tool_concurrency"),
        model_retries=_positive(limits.model_retries, "model_retries") if limits.model_retries else 0,
        retry_timeout=_positive(limits.retry_timeout, "retry_timeout"),
        result_bytes=_positive(limits.result_bytes, "result_bytes"),
        parallel_calls=config.parallel_calls is not False,
        locale=config.locale or "",
        approver=config.approver,
        rules=config.rules,
        taint=config.taint,
        budgets=config.budgets,
        rates=config.rates,
        repeated_calls=_positive(limits.repeated_calls, "repeated_calls") if limits.repeated_calls else 0,
        asks_per_minute=_positive(limits.asks_per_minute, "asks_per_minute") if limits.asks_per_minute else 0,
        origins=tuple(_origins(layers, capabilities)),
    )
    _check_document(manifest)
    return manifest


def _hooks(config: Config, capabilities: Iterable[Capability]) -> tuple[Hook, ...]:
    """Those of capabilities, then those that are data, then those that are code, without the muted ones."""
    data = [hook for hook in config.hooks if hook.is_data]
    code = [hook for hook in config.hooks if not hook.is_data]
    every = last_wins([*(hook for cap in capabilities for hook in cap.hooks), *data, *code], "id")
    hooks = tuple([hook for hook in every if hook.id not in config.muted_hooks])
    for hook in hooks:
        hook.check()
    return hooks


def _check_document(manifest: Manifest) -> None:
    try:
        _ = manifest.document
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"the configuration cannot be written as JSON: {error}; remove lone surrogates, and values that JSON "
            "does not have, from instructions, files, schemas and capability configurations"
        ) from error


def _positive(value: Any, name: str) -> Any:
    if not 0 < value < math.inf:
        raise ConfigError(f"limit {name} is {value!r}; it must be above 0 (leave it unset for the default)")
    return value


def _check_network(layers: Iterable[Layer]) -> None:
    for layer in layers:
        access = layer.config.network or NetworkAccess()
        for rule in (*(access.allowed or ()), *access.blocked):
            try:
                check_rule(rule)
            except ConfigError as error:
                raise ConfigError(f"{layer.name}: {error}") from None


def _no_model() -> NoReturn:
    raise UnknownModel(
        'no layer names a model; set one, such as Agent(..., model="openai-chat/gpt-5-mini") or Runtime(model=...)'
    )


def _route(layers: Iterable[Layer], model: ModelRef, names: Names) -> Route:
    if not isinstance(model, str):
        named = f"{model.wire}/"
        return Route(model=named, driver=model, name="", price=names.pricing(named, model))
    try:
        driver, name = names.driver(model)
    except UnknownModel as error:
        who = [layer.name for layer in layers if layer.config.model is not None][-1]
        raise UnknownModel(f"{who}: {error}") from None
    return Route(model=model, driver=driver, name=name, price=names.pricing(model, driver))


def _windowed(routes: tuple[Route, ...], compaction: Compaction | None, names: Names) -> tuple[Route, ...]:
    """The routes with how much their models take in, where that matters."""
    if compaction is None:
        return routes
    return tuple(msgspec.structs.replace(it, window=names.window(it.model, it.driver)) for it in routes)


def _summariser(compaction: Compaction | None, names: Names) -> Route | None:
    """The model that summarises, where it is not the one that the turn asks."""
    if compaction is None or not compaction.model:
        return None
    model = compaction.model
    try:
        driver, name = names.driver(model)
    except UnknownModel as error:
        raise UnknownModel(f"capability 'compaction': {error}") from None
    price, window = names.pricing(model, driver), names.window(model, driver)
    return Route(model=model, driver=driver, name=name, price=price, window=window)


def _expand(
    layers: Iterable[Layer], refs: Iterable[CapabilityRef | Capability], names: Names
) -> dict[str, Capability]:
    """By name, dependencies before dependents; an explicit configuration beats a dependency's empty one."""
    explicit = {ref.name: ref for ref in refs}
    asked_by = {ref.name: layer.name for layer in layers for ref in layer.config.capabilities}
    done: dict[str, Capability] = {}

    def visit(name: str, chain: tuple[str, ...]) -> None:
        if name in chain:
            raise CapabilityCycle(
                f"capabilities depend on each other in a circle: {' -> '.join((*chain, name))}"
            )
        if name in done:
            return
        if len(done) + len(chain) >= MAX_CAPABILITIES:
            raise ConfigError(f"more than {MAX_CAPABILITIES} capabilities; the last was {name!r}")
        given = explicit.get(name) or CapabilityRef(name=name)
        try:
            capability = given if isinstance(given, Capability) else names.capability(given)
        except UnknownCapability as error:
            who = f"capability {chain[-1]}" if chain else asked_by[name]
            raise UnknownCapability(f"{who}: {error}") from None
        for dependency in capability.depends:
            visit(dependency, (*chain, name))
        done[name] = _namespaced(capability)

    for name in explicit:
        visit(name, ())
    return done


def _namespaced(capability: Capability) -> Capability:
    """The capability, with its name at the beginning of the ids of its hooks."""
    space = f"{capability.name}:"
    if all(hook.id.startswith(space) for hook in capability.hooks):
        return capability
    named = [it if it.id.startswith(space) else replace(it, id=space + it.id) for it in capability.hooks]
    return msgspec.structs.replace(capability, hooks=tuple(named))


def _ref(name: str, config: Config) -> CapabilityRef:
    explicit = {ref.name: ref for ref in config.capabilities if isinstance(ref, CapabilityRef)}
    return explicit.get(name) or CapabilityRef(name=name)


def _instructions(config: Config, capabilities: Iterable[Capability]) -> str:
    text = config.instructions
    for capability in capabilities:
        if capability.instructions.strip():
            part = f'<capability name="{capability.name}">\n{capability.instructions.strip()}\n</capability>'
            text = append_text(text, part)
    if config.locale:
        text = append_text(text, f"Answer in the user's language and locale: {config.locale}.")
    return text or ""


def _check_services(tools: Iterable[Tool], capabilities: Iterable[Capability], lent: Lent) -> None:
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
    "guards": "id",
    "rules": "id",
    "budgets": "name",
    "rates": "name",
}
_MERGED = ("instructions", "network")
_NESTED = ("limits", "settings")


def _origins(layers: Sequence[Layer], capabilities: Iterable[Capability]) -> Iterable[Origin]:
    """One origin per value. The last layer wins, but for merged fields every layer that set it had a part in it."""
    found = {origin.field: origin for cap in capabilities for origin in _contributed(cap)}
    for layer in layers:
        for name in CONFIG_FIELDS:
            if is_set(layer.config, name):
                for field, value in _values(name, getattr(layer.config, name)):
                    before = found[field].layers if name in _MERGED and field in found else ()
                    found[field] = Origin(field=field, value=value, layers=(*before, layer.name))
    for cap in capabilities:
        if cap.instructions.strip():
            before = found["instructions"].layers if "instructions" in found else ()
            text = _short(cap.instructions.strip())
            found["instructions"] = Origin(
                field="instructions", value=text, layers=(*before, f"capability {cap.name}")
            )
    defaults = [
        Origin(field=f"limits.{name}", value=str(value), layers=("default",))
        for name, value in msgspec.structs.asdict(DEFAULT_LIMITS).items()
        if value is not None and f"limits.{name}" not in found
    ]
    if "taint" not in found:
        defaults.append(Origin(field="taint", value="ask", layers=("default",)))
    return [*found.values(), *defaults]


def _contributed(capability: Capability) -> Iterable[Origin]:
    """What a capability brings; a layer's own entry of the same name takes its place."""
    who = (f"capability {capability.name}",)
    for dependency in capability.depends:
        yield Origin(field=f"capabilities.{dependency}", value="{}", layers=who)
    for name in ("tools", "files", "hooks", "policies", "guards"):
        for field, value in _values(name, getattr(capability, name)):
            yield Origin(field=field, value=value, layers=who)


def _values(name: str, value: Any) -> Iterable[tuple[str, str]]:
    if name == "muted_hooks":
        return [(f"{name}.{hook}", "muted") for hook in value]
    if key := _KEYED.get(name):
        return [(f"{name}.{getattr(entry, key)}", _short(entry)) for entry in value]
    if name in _NESTED:
        return [
            (f"{name}.{k}", str(v)) for k, v in msgspec.structs.asdict(value).items() if v not in (None, ())
        ]
    return [(name, _short(value))]


def _short(value: Any) -> str:
    if isinstance(value, Tool | Capability):
        return _short(value.description)
    if isinstance(value, CapabilityRef):
        return _short(json.dumps(value.config, default=repr))
    if isinstance(value, SeedFile):
        return f"{len(value.content)} characters"
    if isinstance(value, list | tuple):
        return _short(", ".join(_short(item) for item in value))
    if isinstance(value, McpServer):
        return value.url or " ".join(value.command)
    if hasattr(value, "describe"):  # a hook, a policy or the approver
        value = msgspec.json.encode(value.describe()).decode()
    text = value if isinstance(value, str) else getattr(value, "wire", None) or repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
