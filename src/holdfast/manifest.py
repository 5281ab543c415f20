"""The manifest: the layers resolved and frozen, complete, named by a digest.

    manifest.digest          "sha256:…" over exactly what changes behaviour
    manifest.explain()       which layer set each value

`resolve` makes one from configuration layers.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec
from msgspec import Struct, structs

from holdfast.approver import Approver
from holdfast.budget import Bounds, Budget, Rate, bounds_of
from holdfast.capability import CapabilityRef, Compaction, SeedFile
from holdfast.charter import NO_CHARTER, Charter, Policies, Rules, Tainting, charter_of
from holdfast.config import DEFAULT_LIMITS, McpServer
from holdfast.driver import Driver, Price, Settings, ToolSpec
from holdfast.facts.answers import OutputContract
from holdfast.guard import Guard, Guards, guards_of
from holdfast.hook import Hook, Point
from holdfast.network import NetworkAccess
from holdfast.store import digest_of
from holdfast.tool import Tool

TYPED = 100
"""Output contracts for which a manifest remembers what it is like with them."""


class Origin(Struct, frozen=True, kw_only=True):
    """One value of a manifest and the layers that made it, lowest first."""

    field: str
    value: str
    layers: tuple[str, ...]


class Route(Struct, frozen=True, kw_only=True, eq=False):
    """One model that can be asked."""

    model: str
    """As asked for: `vendor/name`."""
    driver: Driver
    name: str
    """What the driver calls it."""
    price: Price
    """What a reply costs. Not part of the digest: a price changes no behaviour."""
    window: int | None = None
    """Tokens it can take in at most, where that is known and matters."""

    def describe(self) -> Any:
        """What of its driver changes behaviour, where that says so; None where it does not. Holds no credential."""
        told = getattr(self.driver, "describe", None)
        return told() if callable(told) else None


class Manifest(Struct, frozen=True, kw_only=True, dict=True, eq=False):
    """What one turn runs under. Equal digests mean equal behaviour."""

    routes: tuple[Route, ...]
    """The models, in the order in which they are asked; at least one."""
    instructions: str
    settings: Settings
    tools: dict[str, Tool]
    """By name, in the order the model sees them."""
    capabilities: tuple[CapabilityRef, ...]
    """Resolved: dependencies first."""
    files: tuple[SeedFile, ...]
    mcp_servers: tuple[McpServer, ...]
    hooks: tuple[Hook, ...]
    policies: Policies
    network: NetworkAccess
    max_iterations: int
    turn_timeout: float | None
    tool_timeout: float
    tool_concurrency: int
    model_retries: int
    retry_timeout: float
    result_bytes: int
    parallel_calls: bool
    locale: str
    origins: tuple[Origin, ...]
    """Not part of the digest: the same behaviour may be layered differently."""
    output: OutputContract | None = None
    """What the answer must look like, where the turn's caller asks for a shape."""
    compaction: Compaction | None = None
    """When the beginning of a transcript is summarised; None: never."""
    summariser: Route | None = None
    """The model that does it; None: the one that the turn asks."""

    approver: Approver | None = None
    """Who is asked first when somebody must answer."""
    rules: Rules = ()
    taint: Tainting = None
    budgets: tuple[Budget, ...] = ()
    rates: tuple[Rate, ...] = ()
    guards: tuple[Guard, ...] = ()
    repeated_calls: int = 0
    """Equal calls with equal results that are a loop; 0: none are."""
    asks_per_minute: int = 0
    """Questions that people may be asked within a minute; 0: any number."""
    charter: Charter = NO_CHARTER
    """The rules and the taint rule, compiled when the manifest is made."""
    written: str = ""
    """The digest of the blob that says which layers it was made of, where that is known."""

    def __post_init__(self) -> None:
        if self.charter is NO_CHARTER:
            models = [route.model for route in self.routes]
            charter = charter_of(self.policies, self.rules, self.taint, self.tools, models)
            structs.force_setattr(self, "charter", charter)

    @property
    def model(self) -> str:
        """The model that is asked first: `vendor/name`."""
        return self.routes[0].model

    def route(self, place: int) -> Route:
        """The model to ask when so many before it have failed; the last one where there are not so many."""
        return self.routes[place if place < len(self.routes) else -1]

    @property
    def summary_rules(self) -> Compaction:
        """How a summary is made when one is wanted."""
        return self.compaction or Compaction()

    def compact_above(self, place: int) -> int | None:
        """Tokens of the last reply above which the transcript is summarised before that route is asked again."""
        return self.compaction.above(self.route(place).window) if self.compaction is not None else None

    @cached_property
    def hooks_at(self) -> dict[Point, tuple[Hook, ...]]:
        """Its hooks by the points at which there are any, in their order."""
        return {it.point: tuple(hook for hook in self.hooks if hook.point == it.point) for it in self.hooks}

    @cached_property
    def bounds(self) -> Bounds:
        """Its budgets and rates, told apart."""
        return bounds_of(self.budgets, self.rates)

    @cached_property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools as a driver advertises them; always the same tuple, so that a driver may encode it once."""
        return tuple(tool.spec for tool in self.tools.values())

    @cached_property
    def specs_bytes(self) -> int:
        """Of all of them, as JSON."""
        return len(msgspec.json.encode(self.specs))

    @cached_property
    def guarding(self) -> Guards:
        """The guards, sorted by where they look."""
        return guards_of(self.guards)

    @cached_property
    def document(self) -> bytes:
        """Canonical JSON (sorted keys, compact, UTF-8) of exactly what changes behaviour."""
        return msgspec.json.encode(self.describe(), order="sorted")

    @cached_property
    def digest(self) -> str:
        """`sha256:` and the hex digest of `document`: the manifest's name."""
        return digest_of(self.document)

    @cached_property
    def _typed(self) -> dict[bytes, Manifest]:
        return {}

    def with_output(self, contract: OutputContract | None) -> Manifest:
        """The same, for a turn whose answer must have this shape."""
        if contract is None:
            return self
        key = msgspec.json.encode(contract)
        typed = self._typed.get(key)
        if typed is None:
            if len(self._typed) >= TYPED:
                self._typed.clear()
            typed = self._typed[key] = structs.replace(self, output=contract)
        return typed

    def describe(self) -> dict[str, Any]:
        """Exactly what changes behaviour, as plain data. Holds no credential."""
        return {
            "model": self.model if len(self.routes) == 1 else [route.model for route in self.routes],
            "instructions": self.instructions,
            "settings": self.settings,
            "tools": [tool.describe() for tool in self.tools.values()],
            "capabilities": self.capabilities,
            "files": [
                {"path": f.path, "digest": digest_of(f.content.encode()), "read_only": f.read_only}
                for f in self.files
            ],
            "mcp_servers": [
                {"name": s.name, "command": s.command, "url": s.url, "environment": sorted(s.environment)}
                for s in self.mcp_servers
            ],
            "hooks": [hook.describe() for hook in self.hooks],
            "policies": [policy.describe() for policy in self.policies],
            "network": self.network,
            "limits": {
                "max_iterations": self.max_iterations,
                "turn_timeout": self.turn_timeout,
                "tool_timeout": self.tool_timeout,
                "tool_concurrency": self.tool_concurrency,
                "model_retries": self.model_retries,
                "retry_timeout": self.retry_timeout,
                "result_bytes": self.result_bytes,
                **self._patience(),
            },
            "parallel_calls": self.parallel_calls,
            "locale": self.locale,
            **self._drivers(),
            **({"approver": self.approver.describe()} if self.approver is not None else {}),
            **self._compacting(),
            **self._deciding(),
            **self._spending(),
            **({"guards": [it.describe() for it in self.guards]} if self.guards else {}),
            **({"output": self.output} if self.output is not None else {}),
        }

    def _drivers(self) -> dict[str, Any]:
        routes = self.routes if self.summariser is None else (*self.routes, self.summariser)
        told = [route.describe() for route in routes]
        return {"drivers": told} if any(it is not None for it in told) else {}

    def _deciding(self) -> dict[str, Any]:
        rules = [rule.describe() for rule in self.rules]
        taint = {"taint": self.taint.describe()} if self.taint is not None else {}
        return {**({"rules": rules} if rules else {}), **taint}

    def _patience(self) -> dict[str, Any]:
        told = {"repeated_calls": self.repeated_calls, "asks_per_minute": self.asks_per_minute}
        return {name: value for name, value in told.items() if value != getattr(DEFAULT_LIMITS, name)}

    def _spending(self) -> dict[str, Any]:
        budgets = {"budgets": self.budgets} if self.budgets else {}
        return {**budgets, **({"rates": self.rates} if self.rates else {})}

    def _compacting(self) -> dict[str, Any]:
        if self.compaction is None:
            return {}
        above = [self.compact_above(place) for place in range(len(self.routes))]
        return {"compaction": {**structs.asdict(self.compaction), "above": above}}

    def explain(self) -> tuple[Origin, ...]:
        """Each value that some layer or capability set, and which."""
        return self.origins
