"""Agent files: Markdown whose body is the instructions, under front matter that says the rest.

    ---
    name: reader
    model: openai-chat/gpt-5-mini
    capabilities: [files]
    limits:
      max_iterations: 20
    ---
    You answer questions about the files you are given.

Between `---` lines stand plain `key: value` lines with lists and one level of nesting; between `+++` lines, TOML.
Anything else is an error that names the line.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, structs

from holdfast import Agent, CapabilityRef, Config, ConfigError, Limits, Rule, Settings, Taint
from holdfast.cli.rulefile import read_rules

T = TypeVar("T", bound=Struct)


class Header(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What front matter may say."""

    name: str = ""
    """The file's name without its ending, when it is not given."""
    description: str = ""
    """For people; the model does not see it."""
    model: str | None = None
    capabilities: tuple[str | CapabilityRef, ...] = ()
    limits: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    rules: str | tuple[Rule, ...] = ()
    """The rules, or the name of a rule file, as seen from here."""
    taint: Taint | None = None


def read_agent(path: Path) -> Agent:
    """The agent in this file. Raises `ConfigError` saying which line or key to mend."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the agent file {path} cannot be read: {error}") from error
    data, instructions = _split(text, path)
    try:
        header = msgspec.convert(data, Header)
        limits = _strict(header.limits, Limits, "limits")
        settings = _strict(header.settings, Settings, "settings")
    except msgspec.ValidationError as error:
        allowed = ", ".join(Header.__struct_fields__)
        raise ConfigError(f"the front matter of {path}: {error}; it may have {allowed}") from error
    return Agent(
        instructions,
        name=header.name or path.stem,
        model=header.model,
        capabilities=header.capabilities,
        limits=limits,
        config=_ruled(header, path, Config(settings=settings)),
    )


def _ruled(header: Header, path: Path, config: Config) -> Config:
    """With the rules that it gives, or that stand in the file it names."""
    if isinstance(header.rules, str):
        found = read_rules(path.parent / header.rules)
        return structs.replace(config, rules=found.rules, taint=header.taint or found.taint)
    return structs.replace(config, rules=header.rules, taint=header.taint)


def _strict(data: dict[str, Any], kind: type[T], name: str) -> T | None:
    """The values as a struct; a key it does not have is an error and not passed over."""
    if unknown := sorted(data.keys() - set(kind.__struct_fields__)):
        known = ", ".join(kind.__struct_fields__)
        raise msgspec.ValidationError(f"{name} has no {', '.join(unknown)} (it has {known})")
    return msgspec.convert(data, kind) if data else None


def _split(text: str, path: Path) -> tuple[dict[str, Any], str]:
    """The front matter as data, and what follows it."""
    lines = text.splitlines()
    fence = lines[0].strip() if lines else ""
    if fence not in ("---", "+++"):
        return {}, text
    ends = [number for number, line in enumerate(lines) if number and line.rstrip() == fence]
    if not ends:
        raise ConfigError(
            f"the front matter of {path} begins with {fence} and never ends; close it with {fence}"
        )
    header, body = lines[1 : ends[0]], "\n".join(lines[ends[0] + 1 :])
    if fence == "---":
        return _plain(header, path), body
    try:
        return tomllib.loads("\n".join(header)), body
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the front matter of {path} is not TOML: {error}") from error


_PAIR = re.compile(r"([A-Za-z_][\w-]*) *:(?: +(.*))?")
_ELSE = "; write key: value, a list as [a, b] or - lines, or use TOML between +++ lines"


def _plain(lines: list[str], path: Path) -> dict[str, Any]:
    """`key: value` lines as data."""
    data: dict[str, Any] = {}
    key = ""
    for number, line in enumerate(lines, 2):
        text = re.sub(r"(^|\s)#.*", "", line) if not re.search(r"[\"']", line) else line
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        try:
            if not text[0].isspace() and not text.startswith("- "):
                key = _add(data, text)
            elif not key or not isinstance(data[key], list | dict | None):
                raise ValueError("it belongs to nothing above")
            else:
                data[key] = _nest(data[key], text.strip())
        except ValueError as error:
            raise ConfigError(
                f"{path}, line {number}: {line.strip()!r} cannot be read: {error}{_ELSE}"
            ) from error
    return {name: value for name, value in data.items() if value is not None}


def _add(data: dict[str, Any], text: str) -> str:
    """Put a pair into the data; its key, when values may follow below."""
    pair = _PAIR.fullmatch(text.rstrip())
    if pair is None:
        raise ValueError("it is no key: value")
    key, value = pair[1], pair[2]
    if key in data:
        raise ValueError(f"{key} is there twice")
    data[key] = _value(value) if value else None
    return "" if value else key


def _nest(below: Any, text: str) -> list[Any] | dict[str, Any]:
    """What stands below a key, with one more line of it."""
    if text.startswith("- ") and not isinstance(below, dict):
        return [*(below or []), _value(text[2:])]
    if isinstance(below, list) or text.startswith("-"):
        raise ValueError("a list and pairs are mixed")
    pairs = dict(below or {})
    if _add(pairs, text):
        raise ValueError("it is nested too deep")
    return pairs


def _value(text: str) -> Any:
    text = text.strip()
    if text[:1] == "[" and text[-1:] == "]":
        return [_value(item) for item in text[1:-1].split(",") if item.strip()]
    if text[:1] in ("'", '"'):
        if len(text) < 2 or text[-1] != text[0] or text[0] in text[1:-1] or "\\" in text:
            raise ValueError("its quotes do not match, or hold quotes or a backslash")
        return text[1:-1]
    if text[:1] in "[]{}&*!|>%@`" or ": " in text or text.endswith(":"):
        raise ValueError("that is more YAML than is read here")
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    return float(text) if re.fullmatch(r"[+-]?\d+\.\d+", text) else text
