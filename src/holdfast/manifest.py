"""The manifest: the layers resolved and frozen, complete, named by a digest.

    manifest.digest          "sha256:…" over exactly what changes behaviour
    manifest.explain()       which layer set each value

`resolve` makes one from configuration layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec
from msgspec import Struct

from holdfast.capability import CapabilityRef, SeedFile
from holdfast.config import McpServer
from holdfast.driver import Driver, Price, Settings, ToolSpec
from holdfast.hook import Hook
from holdfast.network import NetworkAccess
from holdfast.policy import Policy
from holdfast.store import digest_of
from holdfast.tool import Tool


class Origin(Struct, frozen=True, kw_only=True):
    """One value of a manifest and the layers that made it, lowest first."""

    field: str
    value: str
    layers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One model that can be asked."""

    model: str
    """As asked for: `vendor/name`."""
    driver: Driver
    name: str
    """What the driver calls it."""
    price: Price = field(compare=False)
    """What a reply costs. Not part of the digest: a price changes no behaviour."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
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
    policies: tuple[Policy, ...]
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

    @property
    def model(self) -> str:
        """The model that is asked first: `vendor/name`."""
        return self.routes[0].model

    def route(self, place: int) -> Route:
        """The model to ask when so many before it have failed; the last one where there are not so many."""
        return self.routes[min(place, len(self.routes) - 1)]

    @cached_property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools as a driver advertises them; always the same tuple, so that a driver may encode it once."""
        return tuple(tool.spec for tool in self.tools.values())

    @cached_property
    def document(self) -> bytes:
        """Canonical JSON (sorted keys, compact, UTF-8) of exactly what changes behaviour."""
        return msgspec.json.encode(self.describe(), order="sorted")

    @cached_property
    def digest(self) -> str:
        """`sha256:` and the hex digest of `document`: the manifest's name."""
        return digest_of(self.document)

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
            },
            "parallel_calls": self.parallel_calls,
            "locale": self.locale,
        }

    def explain(self) -> tuple[Origin, ...]:
        """Each value that some layer or capability set, and which."""
        return self.origins
