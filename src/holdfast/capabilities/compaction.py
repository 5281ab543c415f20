"""The `compaction` capability: when a transcript becomes too long, the model is told a summary of its beginning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from holdfast.capability import Capability, Compaction
from holdfast.errors import ConfigError

_FIELDS = ", ".join(Compaction.__struct_fields__)


class _Config(Compaction, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A field that does not exist is a mistake to be told of."""


def compaction(config: Mapping[str, Any]) -> Capability:
    """The capability. Raises `ConfigError` for fields that `Compaction` does not have, and for values without sense."""
    try:
        given = msgspec.convert(config, _Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f'capability "compaction": {error}; it takes {_FIELDS}') from error
    _check(given)
    return Capability(
        name="compaction",
        description="The beginning of a transcript that has become too long is summarised for the model.",
        compaction=Compaction(**{name: getattr(given, name) for name in Compaction.__struct_fields__}),
    )


def _check(given: Compaction) -> None:
    share = isinstance(given.threshold, float)
    if given.threshold is not None and not (0 < given.threshold < 1 if share else given.threshold > 1):
        raise ConfigError(
            f'capability "compaction": the threshold is {given.threshold!r}; give a share of the context window '
            "between 0.0 and 1.0, a whole number of tokens, or None"
        )
    if given.keep < 0:
        raise ConfigError(f'capability "compaction": keep is {given.keep}; give a number of tokens from 0 on')
