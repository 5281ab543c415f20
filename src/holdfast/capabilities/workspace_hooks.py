"""The `workspace_hooks` capability: the hooks that a directory brings with it, where they are trusted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from holdfast.capability import Capability
from holdfast.commands.trust import Trust
from holdfast.errors import ConfigError, HooksRefused
from holdfast.hook import Hook

_log = logging.getLogger(__name__)


class _Config(Struct, forbid_unknown_fields=True):
    directories: tuple[str, ...]


def workspace_hooks(config: Mapping[str, Any]) -> Capability:
    """The capability. Raises `ConfigError` without `directories`, `HooksRefused` when the hooks of one are not those
    that were trusted there. Hooks that nobody ever trusted are left out, and the program's log says so."""
    try:
        directories = msgspec.convert(config, _Config).directories
    except msgspec.ValidationError as error:
        raise ConfigError(f'capability "workspace_hooks": {error}; it takes directories') from error
    hooks = [hook for directory in directories for hook in _brought_by(directory)]
    if len({hook.id for hook in hooks}) < len(hooks):
        raise ConfigError(f"two hooks of {', '.join(directories)} have one id; rename one of them")
    return Capability(
        name="workspace_hooks", description="Hooks that a directory brings with it.", hooks=tuple(hooks)
    )


def _brought_by(directory: str) -> tuple[Hook, ...]:
    trust = Trust()
    try:
        standing, hooks = trust.brought(directory)
    except HooksRefused as error:
        if trust.covers(directory):
            raise
        _log.warning("the hooks of %s are left out: %s", directory, error)
        return ()
    if standing == "new":
        _log.warning("the hooks of %s are not trusted and left out: holdfast trust %s", directory, directory)
    return hooks
