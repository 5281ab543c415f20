"""Asks: questions that somebody must answer before a call may run, or instead of running it here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from holdfast.asking import AskFor, Client, covering
from holdfast.facts.asks import AskOpened, GrantUsed, Wants
from holdfast.ids import new_id
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.schema import encode_value
from holdfast.store import digest_of
from holdfast.turn.call import Ready

Wish = tuple[str, AskFor]
"""Who wants to ask, and what."""

AUTHOR = "author"
"""Who asks when the tool itself does."""


def ask_about(ready: Ready, asked: Sequence[Wish], journal: Journal, manifest: Manifest) -> AskOpened | None:
    """The one ask that these hooks and policies, and the tool's author, want before the call runs; None without any.

    The first gives the reason; the earliest expiry counts, and the strictest of what happens then; whoever answers must
    be among those whom each of them names.
    """
    wishes = [*asked, *_author(ready)]
    if not wishes:
        return None
    terms = [wish for _, wish in wishes]
    named = list(dict.fromkeys(it.who for it in terms if it.who))
    first = AskFor(
        reason=terms[0].reason,
        owner=next((it.owner for it in terms if it.owner), ""),
        expires_at=min((it.expires_at for it in terms if it.expires_at is not None), default=None),
        expires_in=min((it.expires_in for it in terms if it.expires_in is not None), default=None),
        who=named[0] if named else (),
        on_expiry="fail" if any(it.on_expiry == "fail" for it in terms) else "deny",
    )
    ask = _opened(ready, first, ", ".join(who for who, _ in wishes), "approval", journal, manifest)
    return msgspec.structs.replace(ask, also=tuple(named[1:])) if len(named) > 1 else ask


def client_ask(ready: Ready, client: Client, journal: Journal, manifest: Manifest) -> AskOpened:
    """The ask for the result of a call that is carried out elsewhere."""
    reason = client.terms.reason
    if client.wants == "answer":
        reason = str(_plain(ready.text).get("question") or reason)
    terms = msgspec.structs.replace(client.terms, reason=reason)
    return _opened(ready, terms, "tool", client.wants, journal, manifest)


def _author(ready: Ready) -> list[Wish]:
    """What the tool's author wants to ask of these arguments; a check that fails asks."""
    name, ask = ready.call.name, ready.tool.ask
    wanted: bool | str | AskFor
    try:
        wanted = ask if isinstance(ask, bool | AskFor) else ask(ready.arguments)
        if isinstance(wanted, AskFor):
            wanted.check_zone()
    except Exception as error:
        wanted = f"whether {name} needs approval could not be told: {type(error).__name__}: {error}"
    if isinstance(wanted, AskFor):
        return [(AUTHOR, wanted)]
    reason = wanted if isinstance(wanted, str) else f"{name} needs approval"
    return [(AUTHOR, AskFor(reason=reason))] if wanted else []


def _opened(
    ready: Ready, terms: AskFor, who: str, wants: Wants, journal: Journal, manifest: Manifest
) -> AskOpened:
    bound = bound_by(ready.call.name, manifest)
    client = ready.tool.client
    given = _plain(ready.text) if wants == "answer" else {}
    ends = [terms.expires_at] if terms.expires_at is not None else []
    if terms.expires_in is not None:
        ends.append(journal.now() + timedelta(seconds=terms.expires_in))
    return AskOpened(
        ask_id=new_id("ask"),
        call_id=ready.call.id,
        tool=ready.call.name,
        arguments=ready.text,
        digest=digest_of_ask(bound, ready.text, terms.reason),
        reason=terms.reason,
        owner=terms.owner,
        expires_at=min(ends, default=None),
        wants=wants,
        who=terms.who,
        on_expiry=terms.on_expiry,
        default=None if terms.default is None else encode_value(terms.default),
        raised_by=who,
        bound=bound,
        schema=client.schema if wants == "result" and client else _schema(ready, wants),
        options=tuple(given.get("options") or ()),
        free_text=bool(given.get("free_text", True)),
    )


def _schema(ready: Ready, wants: Wants) -> dict[str, Any] | None:
    return ready.tool.parameters.schema if wants == "approval" else None


def _plain(arguments: str) -> dict[str, Any]:
    return msgspec.json.decode(arguments or "{}", type=dict[str, Any])


def digest_of_ask(bound: str, arguments: str, reason: str) -> str:
    """What an answer binds: the tool and all that is over it, the arguments, and why it was asked."""
    return digest_of("\n".join((bound, arguments, reason)).encode())


def bound_by(name: str, manifest: Manifest) -> str:
    """Digest of this tool and of the hooks, policies and rules over it before it runs; empty without the tool."""
    tool = manifest.tools.get(name)
    if tool is None:
        return ""
    over: list[Any] = [*manifest.policies, *manifest.rules]
    over += [hook for hook in manifest.hooks if hook.point == "before_tool"]
    over += [manifest.taint] if manifest.taint is not None else []
    described = [tool.describe(), *[it.describe() for it in over]]
    return digest_of(msgspec.json.encode(described, order="sorted"))


def granted(ask: AskOpened, journal: Journal, manifest: Manifest) -> GrantUsed | None:
    """The decision on this ask that somebody made before, if it still holds."""
    grants = journal.state.grants
    grant = covering(grants.values(), ask, manifest.digest, journal.present()) if grants else None
    if grant is None:
        return None
    why = grant.reason or f"{grant.by} denied it beforehand"
    return GrantUsed(
        grant_id=grant.id,
        call_id=ask.call_id,
        tool=ask.tool,
        arguments=ask.arguments,
        digest=ask.digest,
        verdict=grant.verdict,
        by=grant.by,
        reason=why if grant.verdict == "denied" else ask.reason,
        raised_by=ask.raised_by,
        bound=ask.bound,
    )
