"""Rules as data: what an agent may do, as patterns over names, arguments and destinations.

    Rule(id="mail-ours", decision="allow", name="send_mail", destinations=("*@example.com",))
    Rule(id="mail-else", decision="ask", name="send_mail", reason="mail leaves the house")
    Rule(id="no-force", decision="deny", name="git", arguments={"args": "*--force*"})

Of the rules that match, the most specific wins; of equally specific ones deny beats ask, and ask beats allow. How
specific a rule is follows, in this order, from its destination, its arguments, its name: an exact text is more than one
with a `*`, that is more than an expression, and any is more than none; then the more characters stand for themselves,
the more specific. Where no rule matches, the rules say nothing.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec
from msgspec import Struct

from holdfast.errors import ConfigError
from holdfast.matching.destinations import clean_path
from holdfast.matching.patterns import RANKS, Pattern, read_pattern
from holdfast.network import check_rule, read_url
from holdfast.policy import ActionKind
from holdfast.tool import Label

RuleDecision = Literal["allow", "deny", "ask"]

MAX_ARGUMENTS = 8
"""Arguments that one rule may look at."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_STRICT: dict[RuleDecision, int] = {"deny": 2, "ask": 1, "allow": 0}


class Rule(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One rule. All its conditions must hold: the kind, the name, every argument, and one of the destinations."""

    id: str
    """Unique in a manifest; decisions are recorded with the code `rule.<id>`."""
    decision: RuleDecision
    name: str = "*"
    """A pattern for the tool (or the model, child, sink, capability)."""
    kind: ActionKind = "tool"
    arguments: dict[str, str] = {}
    """Patterns by the argument's name: `order.id` looks into an object, `*` at every text there is. Of a list, one
    element must match to deny or ask, and all to allow."""
    destinations: tuple[str, ...] = ()
    """`example.com`, `*.example.com` (also the host itself), `https://example.com/v1/`, `*@example.com`, `/srv/*`, `*`.
    Each place that a call points to is judged by itself, and the strictest verdict counts."""
    reason: str = ""
    """What the model (or whoever is asked) reads."""
    optional: bool = False
    """Whether it may stay in a manifest in which it can match nothing, such as a house rule about a tool that not
    every agent has."""

    def describe(self) -> dict[str, object]:
        """What of this rule changes behaviour, as plain data."""
        return {key: value for key, value in msgspec.to_builtins(self).items() if key != "optional"}


class Taint(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The taint rule: once private data and untrusted content are in a session, what goes out is asked about.

    Labels come from `@tool(labels=...)` and from here. They enter a session when a tool so labelled is started, or with
    its inputs, and stay.
    """

    decision: Literal["ask", "deny", "off"] = "ask"
    labels: dict[str, tuple[Label, ...]] = {}
    """Further labels of tools, by patterns of their names."""
    inputs: tuple[Label, ...] = ()
    """Labels of what is said to the session, such as `untrusted` where strangers write."""
    trusted: tuple[str, ...] = ()
    """Destinations, as in `Rule.destinations`, that do not count as outside."""

    def describe(self) -> dict[str, object]:
        """What of it changes behaviour, as plain data."""
        return {"decision": self.decision, **msgspec.to_builtins(self)}


Precedence = tuple[int, ...]


class Condition(Struct, frozen=True):
    """A destination that a rule is about, as read."""

    text: str
    """In its one spelling."""
    about: Literal["any", "host", "domain", "url", "mail", "path"]
    pattern: Pattern | None = None


class Entry(Struct, frozen=True):
    """A rule with one of its destinations: what is matched as one thing."""

    rule: Rule
    name: Pattern
    arguments: tuple[tuple[str, Pattern], ...]
    destination: Condition | None
    precedence: Precedence

    @property
    def conditions(self) -> tuple[tuple[str, str], ...]:
        """Everything it asks for besides its name, as data that can be compared."""
        wanted = [(f"argument {key}", pattern.text) for key, pattern in self.arguments]
        return (*wanted, *([(to.about, to.text)] if (to := self.destination) else []))


def entries_of(rule: Rule, place: int) -> list[Entry]:
    """The rule, read, once for each of its destinations. Raises `ConfigError` naming the rule and what to mend."""
    try:
        return _read(rule, place)
    except ConfigError as error:
        raise ConfigError(f"rule {rule.id!r} can never match: {error}") from None


def _read(rule: Rule, place: int) -> list[Entry]:
    if not _ID.fullmatch(rule.id):
        raise ConfigError(
            "its id has to be 1 to 64 letters, digits, _ . and -, and begin with a letter or digit"
        )
    if rule.kind in ("turn", "model") and (rule.arguments or rule.destinations):
        raise ConfigError(f"a {rule.kind} has no arguments and no destinations")
    if rule.kind == "turn" and rule.name != "*":
        raise ConfigError("a turn has no name; leave the name out")
    if len(rule.arguments) > MAX_ARGUMENTS:
        raise ConfigError(f"it looks at {len(rule.arguments)} arguments; {MAX_ARGUMENTS} is the most")
    if not all(rule.arguments):
        raise ConfigError("an argument without a name; write * for any argument")
    name = read_pattern(rule.name)
    arguments = tuple((key, read_pattern(text)) for key, text in sorted(rule.arguments.items()))
    wanted: list[Condition | None] = [read_condition(text) for text in rule.destinations]
    return [
        Entry(rule, name, arguments, destination, _precedence(rule, name, arguments, destination, place))
        for destination in (wanted or [None])
    ]


def _precedence(
    rule: Rule, name: Pattern, arguments: tuple[tuple[str, Pattern], ...], to: Condition | None, place: int
) -> Precedence:
    """The smaller, the sooner it is looked at."""
    patterns = [pattern for _, pattern in arguments if pattern.shape != "any"]
    return (
        *(-part for part in (_rank_of(to) if to else (0, 0))),
        -len(patterns),
        -sum(RANKS[pattern.shape] for pattern in patterns),
        -sum(pattern.weight for pattern in patterns),
        -RANKS[name.shape],
        -name.weight,
        -_STRICT[rule.decision],
        place,
    )


def _rank_of(to: Condition) -> tuple[int, int]:
    if to.about == "any":
        return 1, 0
    if to.about in ("domain", "url"):
        return (3 if to.about == "domain" else 5), len(to.text)
    shape = to.pattern.shape if to.pattern else "literal"
    return (4 if shape == "literal" else 1 + RANKS[shape]), to.pattern.weight if to.pattern else len(to.text)


def read_condition(text: str) -> Condition:
    """The destination pattern in this text. Raises `ConfigError` for one that no destination can match."""
    if not text.strip():
        raise ConfigError("an empty destination matches nothing; write * for any")
    if text == "*":
        return Condition("*", "any")
    if text.startswith(("/", "~", "re:")):
        clean = text if text.startswith("re:") else clean_path(text) + ("/" if text.endswith("/") else "")
        return Condition(clean, "path", read_pattern(clean))
    if "@" in text and "://" not in text:
        return _mail(text)
    try:
        check_rule(text)
    except ConfigError as error:
        if "://" in text:
            raise
        raise ConfigError(
            f"{error} A path begins with a /, as in /src/*, which is about src/a.py too."
        ) from None
    if "://" in text:
        return Condition(text, "url")
    below = text.startswith("*.")
    url = read_url(f"https://{text.removeprefix('*.')}")
    if isinstance(url, str):
        raise ConfigError(f"{text!r} is no host ({url})")
    return Condition(url.host, "domain" if below else "host")


def _mail(text: str) -> Condition:
    local, _, domain = text.rpartition("@")
    below = "*." if domain.startswith("*.") else ""
    url = read_url(f"https://{domain.removeprefix('*.')}") if domain != "*" else None
    if not local or isinstance(url, str):
        raise ConfigError(f"{text!r} is no mail address; write name@example.com or *@example.com")
    clean = f"{local.lower()}@{below}{url.host if url else '*'}"
    return Condition(clean, "mail", read_pattern(clean))
