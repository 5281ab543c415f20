"""A charter: the rules and the taint rule of one manifest, compiled when it is made and checked against its tools."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from msgspec import Struct

from holdfast.errors import ConfigError
from holdfast.matching.patterns import read_pattern
from holdfast.policy import ActionKind, Policy
from holdfast.rulebook import RuleBook, check_rules, trusted, unknown_argument
from holdfast.rules import Condition, Entry, Rule, Taint, entries_of, read_condition
from holdfast.services import FILES
from holdfast.tool import Label, Tool

Policies = tuple[Policy, ...]
"""In the order in which they are asked."""
Rules = tuple[Rule, ...]
"""Of every layer."""
Tainting = Taint | None
"""As the topmost layer says; None: the default."""

_EVERYTHING: frozenset[ActionKind] = frozenset(("turn", "model", "tool", "child", "delivery", "capability"))


class Charter(Struct, frozen=True, kw_only=True):
    """What decides, ready to be asked."""

    book: RuleBook | None
    taint: Taint
    labels: Mapping[str, tuple[Label, ...]]
    """Of the tools that have any."""
    brings: Mapping[str, tuple[Label, ...]]
    """What of that enters the session when the tool is started."""
    tainting: bool
    """Whether any call can fall under the taint rule."""
    judged: frozenset[ActionKind]
    """The kinds of action that anything is asked about."""
    trusted: tuple[Condition, ...]

    def stays(self, arguments: str) -> bool:
        """Whether the call points only to places that are not outside."""
        return bool(self.trusted) and trusted(self.trusted, arguments)


def charter_of(
    policies: Policies, rules: Rules, tainting: Tainting, tools: Mapping[str, Tool], models: Iterable[str]
) -> Charter:
    """The charter. Raises `ConfigError` naming a rule that can never match, and saying why."""
    taint = tainting or Taint()
    labels = _labels(taint, tools)
    book = _book(rules, tools, models) if rules else None
    outbound = taint.decision != "off" and any("outbound" in it for it in labels.values())
    judged = _EVERYTHING if policies else (book.kinds if book else frozenset())
    return Charter(
        book=book,
        taint=taint,
        labels=labels,
        brings={
            name: more for name, it in labels.items() if (more := tuple(x for x in it if x != "outbound"))
        },
        tainting=outbound,
        judged=judged | {"tool"} if outbound else judged,
        trusted=_trusted(taint),
    )


def _trusted(taint: Taint) -> tuple[Condition, ...]:
    try:
        return tuple(read_condition(text) for text in taint.trusted)
    except ConfigError as error:
        raise ConfigError(f"the trusted destinations of the taint rule: {error}") from None


def _labels(taint: Taint, tools: Mapping[str, Tool]) -> dict[str, tuple[Label, ...]]:
    found = {tool.name: tool.labels for tool in tools.values() if tool.labels}
    for text, more in taint.labels.items():
        try:
            pattern = read_pattern(text)
        except ConfigError as error:
            raise ConfigError(f"the labels of the taint rule: {error}") from None
        named = [name for name in tools if pattern.matches(name)]
        if not named:
            known = ", ".join(tools) or "(none)"
            raise ConfigError(
                f"the taint rule labels {text!r}, and no tool here is named so; there are {known}"
            )
        for name in named:
            found[name] = tuple(dict.fromkeys((*found.get(name, ()), *more)))
    return found


def book_of(rules: Rules, mounted: Container[str] = ()) -> RuleBook:
    """These rules, as far as they can be checked without knowing what they are about. `mounted` are the names of the
    tools that work on the session's files. Raises `ConfigError`."""
    return RuleBook(_entries(rules), mounted)


def _entries(rules: Rules) -> list[Entry]:
    distinct: dict[str, Rule] = {}
    for rule in rules:
        if distinct.setdefault(rule.id, rule) != rule:
            raise ConfigError(f"there are two different rules {rule.id!r}; give one of them another id")
    return [entry for place, rule in enumerate(distinct.values()) for entry in entries_of(rule, place)]


def _book(rules: Rules, tools: Mapping[str, Tool], models: Iterable[str]) -> RuleBook:
    entries = _entries(rules)
    book = RuleBook(entries, {name for name, it in tools.items() if FILES in it.needs})
    known: dict[ActionKind, tuple[str, ...]] = {"tool": tuple(tools), "model": tuple(models), "turn": ("",)}
    if wrong := _wrong_argument(entries, tools) or check_rules(entries, book, known):
        raise ConfigError(wrong)
    return book


def _wrong_argument(entries: Iterable[Entry], tools: Mapping[str, Tool]) -> str:
    schemas = {tool.name: tool.parameters.schema for tool in tools.values()}
    for entry in entries:
        if (
            entry.rule.kind == "tool"
            and not entry.rule.optional
            and (key := unknown_argument(entry, schemas))
        ):
            about = [it for name, it in schemas.items() if entry.name.matches(name)]
            known = ", ".join(dict.fromkeys(name for it in about for name in it.get("properties", {})))
            return (
                f"rule {entry.rule.id!r} can never match: what it is about has no argument {key!r}; there are "
                f"{known or '(none)'}"
            )
    return ""


NO_CHARTER = charter_of((), (), None, {}, ())
"""Those of a manifest without anything to decide about."""
