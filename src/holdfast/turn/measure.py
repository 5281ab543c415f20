"""Measure: what a model call will use at most, and what it used. A provider's word never makes it less than nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

from holdfast.driver import Reply, Request
from holdfast.facts.budgets import NOTHING, Spent
from holdfast.manifest import Route
from holdfast.messages import Message, Usage
from holdfast.turn.abridge import estimate as tokens_of

Clock = Callable[[], datetime]
"""Tells the time, which only prices depend on."""

OUTPUT = 4_096
"""Tokens that an answer is taken to have at most where `Settings.max_tokens` does not say."""

BYTES = 4
"""Of text for a token."""


def at_most(request: Request, context: int, route: Route, now: Clock, *, money: bool) -> tuple[Spent, bool]:
    """What this request uses at most, as far as can be told before it is sent; and whether its price is known. Without
    `money` nobody asks what it costs.

    `context` are the tokens of the last reply and all that led to it, where there was one.
    """
    taken, output = _input(request, context), request.settings.max_tokens or OUTPUT
    if not money:
        return Spent(model_calls=1, tokens=taken + output), True
    price = _price(Usage(input_tokens=taken, output_tokens=output), route, now())
    spent = Spent(model_calls=1, tokens=taken + output, usd=price or NOTHING)
    return spent, price is not None


def used(
    reply: Reply, most: Spent, route: Route, now: Clock, *, money: bool
) -> tuple[Spent, Literal["reported", "estimated"]]:
    """What this reply used: as the provider says, or, where it says nothing that can be, what was reserved for it."""
    usage = reply.usage
    tokens = max(usage.input_tokens, 0) + max(usage.output_tokens, 0)
    if not tokens:
        return most, "estimated"
    if not money:
        return Spent(model_calls=1, tokens=tokens), "reported"
    cost = route.price(reply, now())
    usd = most.usd if cost is None else max(cost.amount, NOTHING)
    return Spent(model_calls=1, tokens=tokens, usd=usd), "reported"


def _input(request: Request, context: int) -> int:
    """Tokens of what is sent: all of it counted, or what came since the last reply."""
    if not context:
        fixed = len(request.instructions.encode(errors="replace")) + len(msgspec.json.encode(request.tools))
        return fixed // BYTES + sum([tokens_of(it) for it in request.messages])
    for place in range(len(request.messages) - 1, -1, -1):
        message = request.messages[place]
        if message.role == "assistant":
            break
        context += tokens_of(message)
    return context


def _price(usage: Usage, route: Route, now: datetime) -> Decimal | None:
    nothing_said = Message(id="", role="assistant", content=())
    cost = route.price(Reply(message=nothing_said, stop="end_turn", usage=usage), now)
    return cost.amount if cost is not None else None
