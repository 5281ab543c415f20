"""The rule book: the rules of one manifest, compiled once, asked for each action.

For every name there is a table of the entries that can match it, the most specific first, with an index over the
conditions that stand for one text: most of a thousand rules are never looked at.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from holdfast.matching.destinations import Destination, TooMany, destinations_in, in_workspace, leaves
from holdfast.matching.patterns import Alternatives, Pattern, TooLong
from holdfast.network import NetworkAccess, Url, permits, read_url
from holdfast.policy import ActionKind
from holdfast.rules import Condition, Entry, Rule, RuleDecision

KEPT = 1_000
"""Names whose tables are remembered."""


class Ruled(Struct, frozen=True, kw_only=True):
    """What the rules say of an action, and which of them."""

    decision: RuleDecision
    rule: str
    """Its id; empty when the arguments point to so many places that they are refused without looking."""
    reason: str

    @property
    def code(self) -> str:
        """The stable reason code."""
        return f"rule.{self.rule}" if self.rule else "policy.unreadable"


_UNREADABLE = Ruled(
    decision="deny",
    rule="",
    reason="its arguments are nested too deep, or point to more places than rules can judge",
)
_SEVERITY: dict[RuleDecision, int] = {"allow": 0, "ask": 1, "deny": 2}


class RuleBook:
    """The rules of a manifest. `decide` is pure and takes time linear in the arguments."""

    def __init__(self, entries: Iterable[Entry], mounted: Container[str] = ()) -> None:
        self.mounted = mounted
        """The names of the tools that work on the session's files, whose paths have several spellings."""
        self._entries = sorted(entries, key=lambda entry: entry.precedence)
        self._tables: dict[tuple[ActionKind, str], Table | None] = {}
        self.kinds = frozenset(entry.rule.kind for entry in self._entries)
        """What kinds of action any rule is about."""
        self.size = len(self._entries)

    def decide(self, kind: ActionKind, name: str, arguments: str = "", root: str = "") -> Ruled | None:
        """What the rules say; None where none matches. `arguments` is JSON text, `root` the host's directory that the
        session's files are in, if any."""
        if kind not in self.kinds:
            return None
        key = (kind, name)
        if key not in self._tables:
            self._keep(key)
        table = self._tables[key]
        if table is None:
            return None
        return table.decide(arguments, root if kind == "tool" and name in self.mounted else None)

    def _keep(self, key: tuple[ActionKind, str]) -> None:
        if len(self._tables) >= KEPT:
            self._tables.clear()
        entries = self.about(*key)
        self._tables[key] = Table(entries) if entries else None

    def about(self, kind: ActionKind, name: str) -> list[Entry]:
        """The entries that can match this name, the most specific first."""
        return [
            it
            for it in self._entries
            if it.rule.kind == kind and _fits(it.name, [name], it.rule.decision == "allow")
        ]


class Facts:
    """What the rules look at of one action's arguments, found out when a rule asks."""

    def __init__(self, text: str) -> None:
        self.value: Any = msgspec.json.decode(text) if text else {}
        self._texts: dict[str, list[str]] = {}

    def texts(self, key: str) -> list[str]:
        """The values of this argument as texts."""
        found = self._texts.get(key)
        if found is None:
            found = self._texts[key] = list(_texts(self.value, key))
        return found


def _texts(value: Any, key: str) -> Iterator[str]:
    if key == "*":
        yield from (text for _, text in leaves(value))
        return
    for name in key.split("."):
        value = [inner[name] for inner in _flat(value) if isinstance(inner, dict) and name in inner]
    for inner in _flat(value):
        yield inner if isinstance(inner, str) else msgspec.json.encode(inner).decode()


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for inner in value:
            yield from _flat(inner)
    else:
        yield value


class Table:
    """The entries for one name, in the order in which they are looked at."""

    def __init__(self, entries: list[Entry]) -> None:
        bare = next((at for at, entry in enumerate(entries) if not entry.conditions), len(entries))
        self._entries = entries[: bare + 1]  # nothing behind one without conditions can win
        self._reads = bool(self._entries[0].conditions)
        self._directed = any(entry.destination for entry in self._entries)
        self._exact: dict[str, dict[str, list[int]]] = {}
        self._prefixed: dict[str, dict[int, dict[str, list[int]]]] = {}
        self._to: dict[str, list[int]] = {}
        self._scan: list[int] = []
        tried: dict[tuple[str, str], list[tuple[int, Pattern]]] = {}
        for place, entry in enumerate(self._entries):
            self._index(place, entry, tried)
        self._tried = {about: Alternatives(patterns) for about, patterns in tried.items()}

    def _index(
        self, place: int, entry: Entry, tried: dict[tuple[str, str], list[tuple[int, Pattern]]]
    ) -> None:
        if (place_of := _place_of(entry.destination)) is not None:
            self._to.setdefault(place_of, []).append(place)
            return
        for key, pattern in entry.arguments:
            if pattern.shape == "literal":
                self._exact.setdefault(key, {}).setdefault(pattern.literal, []).append(place)
                return
        for key, pattern in entry.arguments:
            if pattern.shape == "prefix":
                lengths = self._prefixed.setdefault(key, {})
                lengths.setdefault(len(pattern.literal), {}).setdefault(pattern.literal, []).append(place)
                return
        for about, pattern in _patterns_of(entry):
            if pattern.shape != "any":
                tried.setdefault(about, []).append((place, pattern))
                return
        self._scan.append(place)

    def decide(self, text: str, root: str | None = None) -> Ruled | None:
        """What these entries say of arguments: the strictest of what they say of each destination. With a `root`, if an
        empty one, paths are those of the session's files."""
        if not self._reads:
            return _said(self._entries[0])
        try:
            facts = Facts(text)
            if not self._directed:
                return self._about(None, facts)
            places = destinations_in(facts.value)
            if root is not None:
                places = tuple(in_workspace(to, root) for to in places)
            said = [self._about(to, facts) for to in places or (None,)]
        except (TooMany, RecursionError, msgspec.DecodeError):
            return _UNREADABLE
        return max(said, key=lambda it: -1 if it is None else _SEVERITY[it.decision])

    def _about(self, to: Destination | None, facts: Facts) -> Ruled | None:
        for place in self._candidates(to, facts):
            entry = self._entries[place]
            if _holds(entry, to, facts):
                return _said(entry)
        return None

    def _candidates(self, to: Destination | None, facts: Facts) -> Iterable[int]:
        """The places of entries that may hold, in order; those that are left out do not."""
        if to is not None and not to.known:
            return range(len(self._entries))
        found = [*self._to_place(to), *self._of_arguments(facts)]
        for (kind, key), patterns in self._tried.items():
            for text in facts.texts(key) if kind == "argument" else _to_try(to, kind):
                found += patterns.find(text)
        if not found:
            return self._scan
        if len(self._scan) > len(found):
            places = self._scan.copy()
            for place in set(found):
                insort(places, place)
            return places
        return sorted({*found, *self._scan})

    def _to_place(self, to: Destination | None) -> Iterator[int]:
        if to is not None and self._to:
            for name in _names_of(to):
                yield from self._to.get(name, ())

    def _of_arguments(self, facts: Facts) -> Iterator[int]:
        for key, values in self._exact.items():
            for text in facts.texts(key):
                yield from values.get(text, ())
        for key, lengths in self._prefixed.items():
            for text in facts.texts(key):
                for length, heads in lengths.items():
                    yield from heads.get(text[:length], ())


def _patterns_of(entry: Entry) -> Iterator[tuple[tuple[str, str], Pattern]]:
    """What has to be tried of an entry: any one of them is enough to rule it out."""
    if entry.destination is not None and entry.destination.pattern is not None:
        yield (entry.destination.about, ""), entry.destination.pattern
    for key, pattern in entry.arguments:
        yield ("argument", key), pattern


def _to_try(to: Destination | None, kind: str) -> tuple[str, ...]:
    return to.spellings if to is not None and to.kind == kind else ()


def _place_of(to: Condition | None) -> str | None:
    """What an index knows this destination by; None for one that has to be tried."""
    if to is None:
        return None
    if to.about in ("host", "domain"):
        return f"{to.about} {to.text}"
    if to.about == "url":
        return f"url {_host_in(to.text)}"
    if to.pattern is not None and to.pattern.shape == "literal":
        return f"{to.about} {to.text}"
    if to.about == "mail" and to.text.startswith("*@") and "*" not in to.text[2:]:
        return f"mail {to.text[1:]}"
    return None


def _host_in(prefix: str) -> str:
    url = read_url(prefix)
    return url.host if isinstance(url, Url) else ""


def _names_of(to: Destination) -> Iterator[str]:
    if to.kind != "host":
        for text in to.spellings:
            yield f"{to.kind} {text}"
        if to.kind == "mail":
            yield f"mail {to.text[to.text.rfind('@') :]}"
        return
    yield f"host {to.text}"
    yield f"url {to.text}"
    rest = to.text
    while rest:
        yield f"domain {rest}"
        rest = rest.partition(".")[2]


def _holds(entry: Entry, to: Destination | None, facts: Facts) -> bool:
    loose = entry.rule.decision == "allow"
    if entry.destination is not None and (to is None or not reaches(entry.destination, to, loose)):
        return False
    return all(_fits(pattern, facts.texts(key), loose) for key, pattern in entry.arguments)


def reaches(wanted: Condition, to: Destination, allow: bool) -> bool:
    """Whether the destination is one of these; where that cannot be told it is, unless that would allow something."""
    if wanted.about == "any":
        return to.known or not allow
    if wanted.about in ("mail", "path"):
        if to.kind != wanted.about:
            return False
        if not to.known or wanted.pattern is None:
            return not allow
        return any(_fits(wanted.pattern, [text], allow) for text in to.spellings)
    if to.kind != "host":
        return False
    if to.url is None:
        return not allow
    if wanted.about == "host":
        return to.text == wanted.text
    if wanted.about == "domain":
        return to.text == wanted.text or to.text.endswith("." + wanted.text)
    if allow:
        return permits(NetworkAccess(allowed=(wanted.text,)), to.url)
    return not permits(NetworkAccess(blocked=(wanted.text,)), to.url)


def _fits(pattern: Pattern, texts: list[str], allow: bool) -> bool:
    try:
        hits = map(pattern.matches, texts)
        return bool(texts) and (all(hits) if allow else any(hits))
    except TooLong:
        return not allow


def _said(entry: Entry) -> Ruled:
    rule = entry.rule
    return Ruled(decision=rule.decision, rule=rule.id, reason=rule.reason or f"rule {rule.id}")


def check_rules(entries: Iterable[Entry], book: RuleBook, known: Mapping[ActionKind, Iterable[str]]) -> str:
    """What is wrong with rules that can match nothing, in words; empty when every one may.

    `known` are the names there are, by kind: a rule about a kind that is not in it is not checked for its name.
    """
    won: set[int] = set()
    beaten: dict[int, str] = {}
    for kind in known:
        for name in known[kind]:
            if len(won) == book.size:
                break
            _contend(book.about(kind, name), won, beaten)
    for entry in entries:
        rule = entry.rule
        if id(entry) in won or rule.kind not in known:
            continue
        if id(entry) in beaten:
            return f"rule {rule.id!r} can never match: rule {beaten[id(entry)]!r} always comes before it"
        if not rule.optional:
            names = ", ".join(known[rule.kind]) or "(none)"
            return (
                f"rule {rule.id!r} can never match: no {rule.kind} here is named {rule.name!r}; there are {names}. "
                "Mend the name, or set optional=True for a rule that is about others too"
            )
    return ""


def _contend(entries: list[Entry], won: set[int], beaten: dict[int, str]) -> None:
    """For one name: which entries another one comes before in every case."""
    first: dict[frozenset[tuple[str, str]], Rule] = {}
    for entry in entries:
        conditions = entry.conditions
        rivals = (first[subset] for subset in _subsets(conditions) if subset in first)
        rival = next((it for it in rivals if _covers(it, entry.rule)), None)
        if rival is None:
            won.add(id(entry))
            first[frozenset(conditions)] = entry.rule
        else:
            beaten[id(entry)] = rival.id


def _covers(rival: Rule, rule: Rule) -> bool:
    """Whether the same conditions hold for the rival too: to allow, they must hold for all there is in a list."""
    return (
        rival.decision != "allow" or rule.decision == "allow" or not (rival.arguments or rival.destinations)
    )


def _subsets(conditions: tuple[tuple[str, str], ...]) -> Iterator[frozenset[tuple[str, str]]]:
    for chosen in range(1 << len(conditions)):
        yield frozenset(it for place, it in enumerate(conditions) if chosen >> place & 1)


def unknown_argument(entry: Entry, schemas: dict[str, dict[str, Any]]) -> str:
    """The argument that none of the tools has that the rule is about; empty when each may be there."""
    about = [schema for name, schema in schemas.items() if entry.name.matches(name)]
    for key, _ in entry.arguments:
        top = key.partition(".")[0]
        if top != "*" and about and not any(_may_have(schema, top) for schema in about):
            return key
    return ""


def _may_have(schema: dict[str, Any], name: str) -> bool:
    properties = schema.get("properties", {})
    return name in properties or schema.get("additionalProperties", True) is not False or "$ref" in schema


def trusted(wanted: Iterable[Condition], arguments: str) -> bool:
    """Whether these arguments point somewhere, and nowhere but to these destinations."""
    try:
        places = destinations_in(msgspec.json.decode(arguments))
    except (TooMany, RecursionError, msgspec.DecodeError):
        return False
    return bool(places) and all(any(reaches(it, to, True) for it in wanted) for to in places)
