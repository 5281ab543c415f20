"""Pinning: a manifest made again from its document.

Data comes from the document. Functions cannot be written down: tools, hooks, policies and the approver are taken from
the manifest of today, by name, and only as they were described then. Whether that worked is not believed but checked:
what was made must say exactly what the document says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from holdfast.budget import Budget, Rate
from holdfast.capability import CapabilityRef, Compaction
from holdfast.charter import NO_CHARTER
from holdfast.config import DEFAULT_LIMITS
from holdfast.driver import Settings
from holdfast.errors import HoldfastError
from holdfast.guard import Guard
from holdfast.manifest import Manifest, Route
from holdfast.network import NetworkAccess
from holdfast.proof.difference import Change, diff, document
from holdfast.resolve import Names as Names
from holdfast.rules import Rule, Taint

T = TypeVar("T")

_LIMITS = (
    "max_iterations",
    "turn_timeout",
    "tool_timeout",
    "tool_concurrency",
    "model_retries",
    "retry_timeout",
    "result_bytes",
)

_SEEDED = ("files", "output")
"""What a turn under way does not read from its manifest: its files were written, and its contract is on the log."""


def pinned(body: bytes, today: Manifest, names: Names) -> tuple[Manifest, list[Change]]:
    """The manifest of this document as far as it can be made today, and what of it could not be."""
    told = document(body)
    try:
        made = msgspec.structs.replace(
            today, **_data(told), **_functions(told, today), **_routes(told, today, names)
        )
    except (HoldfastError, msgspec.ValidationError, TypeError, KeyError):
        made = today
    changes = [it for it in diff(body, made) if it.field.partition(".")[0] not in _SEEDED]
    return made, changes


def _data(told: Mapping[str, Any]) -> dict[str, Any]:
    limits, compaction = told["limits"], dict(told.get("compaction") or {})
    compaction.pop("above", None)
    return {
        "instructions": told["instructions"],
        "settings": msgspec.convert(told["settings"], Settings),
        "capabilities": msgspec.convert(told["capabilities"], tuple[CapabilityRef, ...]),
        "network": msgspec.convert(told["network"], NetworkAccess),
        **{name: limits[name] for name in _LIMITS},
        "parallel_calls": told["parallel_calls"],
        "locale": told["locale"],
        "compaction": msgspec.convert(compaction, Compaction) if compaction else None,
        "taint": msgspec.convert(told["taint"], Taint) if "taint" in told else None,
        "budgets": msgspec.convert(told.get("budgets", ()), tuple[Budget, ...], strict=False),
        "rates": msgspec.convert(told.get("rates", ()), tuple[Rate, ...]),
        "repeated_calls": limits.get("repeated_calls", DEFAULT_LIMITS.repeated_calls),
        "asks_per_minute": limits.get("asks_per_minute", DEFAULT_LIMITS.asks_per_minute),
    }


def _functions(told: Mapping[str, Any], today: Manifest) -> dict[str, Any]:
    """What is taken from today, in the order of the document. What is not there is missing from what is made."""
    tools = _named(told["tools"], "name", today.tools)
    rules = msgspec.convert(told.get("rules", ()), tuple[Rule, ...])
    return {
        "tools": {tool.name: tool for tool in tools},
        "hooks": tuple(_named(told["hooks"], "id", {it.id: it for it in today.hooks})),
        "policies": tuple(_named(told["policies"], "name", {it.name: it for it in today.policies})),
        "mcp_servers": tuple(_named(told["mcp_servers"], "name", {it.name: it for it in today.mcp_servers})),
        "guards": tuple(_guards(told.get("guards", ()), {it.id: it for it in today.guards})),
        "rules": tuple(msgspec.structs.replace(rule, optional=True) for rule in rules),
        "approver": today.approver if "approver" in told else None,
        "charter": NO_CHARTER,
    }


def _named(told: Iterable[Mapping[str, Any]], key: str, known: Mapping[str, T]) -> list[T]:
    return [known[entry[key]] for entry in told if entry[key] in known]


def _guards(told: Iterable[Mapping[str, Any]], known: Mapping[str, Guard]) -> Iterator[Guard]:
    """Those without a function are made of what is told."""
    for entry in told:
        if "check" not in entry:
            yield Guard(**entry)
        elif entry["id"] in known:
            yield known[entry["id"]]


def _routes(told: Mapping[str, Any], today: Manifest, names: Names) -> dict[str, Any]:
    models = [told["model"]] if isinstance(told["model"], str) else told["model"]
    known = {route.model: route for route in today.routes}
    routes = [known[model] if model in known else _route(model, names) for model in models]
    summariser = (told.get("compaction") or {}).get("model", "")
    if "compaction" in told:
        routes = [msgspec.structs.replace(it, window=names.window(it.model, it.driver)) for it in routes]
    return {"routes": tuple(routes), "summariser": _route(summariser, names) if summariser else None}


def _route(model: str, names: Names) -> Route:
    """Raises `UnknownModel`."""
    driver, name = names.driver(model)
    price, window = names.pricing(model, driver), names.window(model, driver)
    return Route(model=model, driver=driver, name=name, price=price, window=window)
