"""Capabilities: named bundles of instructions, tools, files, hooks and what they need.

A capability is plain data with functions in it. One is made from its configuration by a factory that the
registry knows by name, so that `"files"` in an agent's configuration becomes a `Capability` when a manifest is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Capability:
    """What a named bundle contributes to a manifest."""

    name: str
    description: str = ""
    instructions: str = ""
    tools: tuple[Tool, ...] = ()
    files: tuple[SeedFile, ...] = ()
    hooks: tuple[Hook, ...] = ()
    policies: tuple[Policy, ...] = ()
    depends: tuple[str, ...] = ()
    """Capabilities that must be there too; they come first."""
    needs: tuple[Key[Any], ...] = ()
    """Services that the session must lend."""


CapabilityFactory = Callable[[Mapping[str, Any]], Capability]
"""Makes a capability from its configuration; raises `ConfigError` when the configuration does not fit."""
