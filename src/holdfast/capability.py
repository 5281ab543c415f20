"""Capabilities: named bundles of instructions, tools, files, hooks and what they need.

A capability is plain data with functions in it. One is made from its configuration by a factory that the
registry knows by name, so that `"files"` in an agent's configuration becomes a `Capability` when a manifest is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from holdfast.errors import ConfigError
from holdfast.guard import Guard
from holdfast.hook import Hook
from holdfast.policy import Policy
from holdfast.services import Key
from holdfast.tool import Tool


class CapabilityRef(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A capability asked for by name, with its configuration."""

    name: str
    config: dict[str, Any] = {}


class SeedFile(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file that a session's workspace starts with."""

    path: str
    content: str
    read_only: bool = False


class Compaction(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When and how the beginning of a long transcript is summarised for the model."""

    threshold: int | float | None = 0.85
    """Tokens that the last reply took and gave above which the transcript is summarised before the next one: a number,
    or a share of the model's context window, where that is known. None: only when a request is refused as too large."""
    keep: int = 20_000
    """Tokens, estimated, of the latest messages that stay as they are; never more than half of what there is."""
    instructions: str = ""
    """What a summary should mind, beyond the usual."""
    model: str = ""
    """`vendor/name` of who summarises; empty: the model that the turn asks."""

    def above(self, window: int | None) -> int | None:
        """The threshold in tokens for a model with this context window; None where there is none."""
        if isinstance(self.threshold, float):
            return int(self.threshold * window) if window else None
        return self.threshold


class Capability(Struct, frozen=True, kw_only=True):
    """What a named bundle contributes to a manifest."""

    name: str
    description: str = ""
    instructions: str = ""
    tools: tuple[Tool, ...] = ()
    files: tuple[SeedFile, ...] = ()
    hooks: tuple[Hook, ...] = ()
    policies: tuple[Policy, ...] = ()
    guards: tuple[Guard, ...] = ()
    depends: tuple[str, ...] = ()
    """Capabilities that must be there too; they come first."""
    needs: tuple[Key[Any], ...] = ()
    """Services that the session must lend."""
    compaction: Compaction | None = None

    def __post_init__(self) -> None:
        for tool in self.tools:
            if not isinstance(tool, Tool):
                raise ConfigError(
                    f"capability {self.name!r}: {tool!r} is not a tool; make one of a function with @tool"
                )


CapabilityFactory = Callable[[Mapping[str, Any]], Capability]
"""Makes a capability from its configuration; raises `ConfigError` when the configuration does not fit."""
