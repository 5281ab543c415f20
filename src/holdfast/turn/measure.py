"""Measure: what a model call will use at most, and what it used. No word of a provider's makes it less than it took."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec
from msgspec import structs

from holdfast.driver import Reply, Request
from holdfast.facts.budgets import NOTHING, Spent
from holdfast.journal import Journal
from holdfast.manifest import Manifest, Route
from holdfast.messages import Message, Usage
from holdfast.turn.abridge import estimate as tokens_of
from holdfast.turn.floor import Floor, Running, under

OUTPUT = 4_096
"""Tokens that an answer is taken to have at most where `Settings.max_tokens` does not say."""

BYTES = 4
"""Of text for a token."""


def at_most(request: Request, journal: Journal, manifest: Manifest, route: Route) -> tuple[Spent, bool]:
    """What this request uses at most, as far as can be told before it is sent; and whether its price is known, where
    any budget is about money."""
    context = journal.state.context
    if context and (since := _since(request)) is not None:
        taken = max(context + since, journal.derived(Floor).under(request))
    else:
        taken = _whole(request, journal, manifest)
    output = request.settings.max_tokens or OUTPUT
    if not manifest.bounds.money:
        return Spent(model_calls=1, tokens=taken + output), True
    price = _price(Usage(input_tokens=taken, output_tokens=output), route, journal.present())
    spent = Spent(model_calls=1, tokens=taken + output, usd=price or NOTHING)
    return spent, price is not None


def used(
    reply: Reply, request: Request, most: Spent, journal: Journal, manifest: Manifest, route: Route
) -> tuple[Spent, Literal["reported", "estimated"]]:
    """What this reply used: as the provider says, but no less than its request and its own words take; or, where it
    says nothing that can be, what was reserved for it."""
    usage = reply.usage
    if usage.input_tokens <= 0 and usage.output_tokens <= 0:
        return most, "estimated"
    taken = max(usage.input_tokens, journal.derived(Floor).under(request))
    given = max(usage.output_tokens, under(reply.message))
    believed = taken == usage.input_tokens and given == usage.output_tokens
    usd = NOTHING
    if manifest.bounds.money:
        if not believed:
            usage = structs.replace(usage, input_tokens=taken, output_tokens=given)
            reply = structs.replace(reply, usage=usage)
        cost, least = _costs(reply, most, route, journal.now())
        believed, usd = believed and cost >= least, max(cost, least)
    return Spent(model_calls=1, tokens=taken + given, usd=usd), "reported" if believed else "estimated"


def _costs(reply: Reply, most: Spent, route: Route, now: datetime) -> tuple[Decimal, Decimal]:
    """What is said to be used costs, in US dollars, and what it costs at least: as much as was reserved where nobody
    knows. What is said to be written to a cache costs no less than if it were read from one."""
    cost, usage = route.price(reply, now), reply.usage
    if cost is None:
        return NOTHING, most.usd
    if not usage.cache_write_tokens:
        return cost.amount, NOTHING
    read = structs.replace(usage, cache_read_tokens=usage.input_tokens, cache_write_tokens=0)
    cached = route.price(structs.replace(reply, usage=read), now)
    return cost.amount, NOTHING if cached is None else cached.amount


def _estimated() -> Running:
    return Running(tokens_of)


def _whole(request: Request, journal: Journal, manifest: Manifest) -> int:
    """Tokens of all that is sent."""
    said, tools = request.instructions, request.tools
    fixed = len(said if said.isascii() else said.encode(errors="replace"))
    fixed += manifest.specs_bytes if tools is manifest.specs else len(msgspec.json.encode(tools))
    return fixed // BYTES + journal.derived(_estimated).over(request.messages)


def _since(request: Request) -> int | None:
    """Tokens of what came since the last reply; None where that is not in the request, as when it is for a summary."""
    tokens = 0
    for place in range(len(request.messages) - 1, -1, -1):
        message = request.messages[place]
        if message.role == "assistant":
            return tokens
        tokens += tokens_of(message)
    return None


def _price(usage: Usage, route: Route, now: datetime) -> Decimal | None:
    nothing_said = Message(id="", role="assistant", content=())
    cost = route.price(Reply(message=nothing_said, stop="end_turn", usage=usage), now)
    return cost.amount if cost is not None else None
