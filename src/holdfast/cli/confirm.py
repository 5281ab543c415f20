"""`confirm`: the capability behind `--ask`. A person must agree before any call that may change something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast import Action, Allow, AskFor, Capability, ConfigError, Decision, Policy


async def decide(action: Action) -> Decision:
    """Ask, unless the tool's author says that it has no effect."""
    if action.kind != "tool" or action.effect == "pure":
        return Allow()
    return AskFor(reason=f"{action.name} may change something")


def confirm(config: Mapping[str, Any]) -> Capability:
    """The capability. Raises `ConfigError` for any configuration."""
    if config:
        raise ConfigError(f'capability "confirm" takes no configuration, and was given {dict(config)}')
    return Capability(
        name="confirm",
        description="Asks a person before any call that may change something.",
        policies=(Policy(name="confirm", decide=decide),),
    )
