"""Views of events: canonical, which is all of it and private, and reviewed, which is safe to log, forward and show.

Every field of a fact has a class. *Public*: what kind, which, how many, how long, how it ended: ids, names of tools,
models and hooks, counts, times, digests. *Person*: who said or decided it. *Content*: what users, models, tools and
operators said, and whatever is not known to be anything else. Numbers, times and values of a fixed list are public.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from msgspec import Struct, structs

from holdfast.events import Event, UnknownFact

Privacy = Literal["public", "person", "content"]
"""What a field of a fact tells."""

PUBLIC = frozenset(
    {
        *(
            "id",
            "turn_id",
            "message_id",
            "call_id",
            "ask_id",
            "output_id",
            "session_id",
            "provider_id",
            "exec_id",
        ),
        *(
            "input_message_id",
            "trace_id",
            "span_id",
            "parent_span_id",
            "response_id",
            "inputs",
            "rerun",
            "event_id",
        ),
        *(
            "kind",
            "type",
            "role",
            "status",
            "stop",
            "effect",
            "decision",
            "point",
            "verdict",
            "stream",
            "code",
        ),
        *(
            "agent",
            "harness",
            "model",
            "next_model",
            "tool",
            "hook",
            "sink",
            "rule",
            "policy",
            "guard",
            "capability",
        ),
        *("manifest", "layers", "digest", "arguments_digest", "media_type", "budget", "quantity", "scope"),
    }
)
"""Names of fields that are public wherever they stand."""

PERSON = frozenset({"by", "owner", "principal", "organisation", "organization", "who", "approver"})
"""Names of fields that say who."""

CALLED = frozenset({"ToolCall", "ToolResult", "ToolStarted", "ToolProgress", "ToolOutput"})
"""Structs whose `name` is that of a tool."""

DIGESTS = frozenset({("Drifted", "before"), ("Drifted", "after")})
"""Structs and their fields that hold digests under plain names."""

SAFE: frozenset[Privacy] = frozenset({"public"})
"""What a reviewed event shows."""

_T = TypeVar("_T", bound=Struct)


def privacy_of(kind: type[Struct], field: str) -> Privacy:
    """The class of this field of this fact, or of what stands in one."""
    if field in PERSON:
        return "person"
    known = field in PUBLIC or field in _literals(kind) or (kind.__name__, field) in DIGESTS
    if known or (field == "name" and kind.__name__ in CALLED):
        return "public"
    return "content"


def reviewed(item: _T, *, show: Collection[Privacy] = SAFE) -> _T:
    """The item without what is not shown: in place of each text stands how long it is. `show` opts in to more.

    An event keeps its envelope and its kind. One of a kind that this version does not know is left without data.
    """
    if isinstance(item, Event):
        if isinstance(item.data, UnknownFact):
            return structs.replace(item, data=UnknownFact(data={}))
        return structs.replace(item, data=_veiled(item.data, frozenset(show)))
    veiled: _T = _veiled(item, frozenset(show))
    return veiled


def _veiled(struct: Any, show: frozenset[Privacy]) -> Any:
    kind, changes = type(struct), {}
    for name in kind.__struct_fields__:
        value = getattr(struct, name)
        seen = _seen(value, show, privacy_of(kind, name) in show)
        if seen is not value:
            changes[name] = seen
    return structs.replace(struct, **changes) if changes else struct


def _seen(value: Any, show: frozenset[Privacy], shown: bool) -> Any:
    """The value, or something of the same type in its place. The fields of what stands in it have their own classes."""
    if isinstance(value, Struct):
        return _veiled(value, show)
    if isinstance(value, tuple | list) and value:
        return type(value)([_seen(it, show, shown) for it in value])
    if isinstance(value, Mapping):
        structured = {key: _seen(it, show, shown) for key, it in value.items()}
        return structured if shown else {}
    if shown or not isinstance(value, str | bytes) or not value:
        return value
    return f"[withheld: {len(value):,} characters]" if isinstance(value, str) else b""


@cache
def _literals(kind: type[Struct]) -> frozenset[str]:
    """Fields that hold one of a fixed list of values."""
    try:
        hints = get_type_hints(kind)
    except (NameError, TypeError):
        return frozenset()
    return frozenset(name for name, hint in hints.items() if _is_literal(hint))


def _is_literal(hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return all(part is type(None) or _is_literal(part) for part in get_args(hint))
    return get_origin(hint) is Literal
