"""Rule files: rules and the taint rule as TOML or JSON, by themselves or in an agent file.

[[rules]]
id = "mail-ours"
decision = "allow"
name = "send_mail"
destinations = ["*@example.com"]

[taint]
decision = "deny"
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from holdfast import ConfigError, Rule, Taint


class Rulings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a rule file may say."""

    rules: tuple[Rule, ...] = ()
    taint: Taint | None = None


def read_rules(path: Path) -> Rulings:
    """The rules in this file: JSON where its name ends so, else TOML. Raises `ConfigError` saying what to mend."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the rule file {path} cannot be read: {error}") from error
    try:
        data: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise ConfigError(f"the rule file {path} is not {kind}: {error}") from error
    try:
        return msgspec.convert({"rules": data} if isinstance(data, list) else data, Rulings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the rule file {path}: {error}{_which(data, str(error))}") from error


def _which(data: Any, problem: str) -> str:
    """The id of the rule that the problem is in, as far as that can be told."""
    rules = data.get("rules") if isinstance(data, dict) else data
    _, found, rest = problem.partition("rules[")
    _, plain, other = problem.partition("$[")
    number = (rest if found else other if plain else "").partition("]")[0]
    if not isinstance(rules, list) or not number.isdigit() or int(number) >= len(rules):
        return ""
    rule = rules[int(number)]
    name = rule.get("id") if isinstance(rule, dict) else None
    return f" (rule {name!r})" if name else f" (rule number {int(number) + 1})"
