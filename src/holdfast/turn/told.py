"""Told: the facts of what a model answered."""

from __future__ import annotations

from holdfast.driver import Reply
from holdfast.events import Fact, OutputMessageCompleted
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.turn.booking import Bill
from holdfast.turn.fit import check_reply
from holdfast.turn.reply import name_reply
from holdfast.turn.watch import Watch

Facts = list[Fact]


async def kept(reply: Reply, watch: Watch, journal: Journal, manifest: Manifest) -> Facts:
    """The facts of a reply as it came. Raises what `name_reply` raises."""
    named = await name_reply(reply, watch.message_id, journal.running, journal.put_blob)
    return facts_of(named, watch, journal, manifest)


def facts_of(reply: Reply, watch: Watch, journal: Journal, manifest: Manifest) -> Facts:
    """The reply, and whether it is the answer that was asked for."""
    facts: Facts = [completed(reply, reply, watch, journal, manifest)]
    if reply.stop == "end_turn" and (checked := check_reply(reply.message, journal.running, journal)):
        facts.append(checked)
    return facts


def completed(
    reply: Reply, paid: Reply, watch: Watch, journal: Journal, manifest: Manifest
) -> OutputMessageCompleted:
    """The reply, or what stands in its place, with what that which was `paid` for cost."""
    turn, route = journal.running, manifest.route(journal.running.route)
    cost = route.price(paid, journal.now())
    return OutputMessageCompleted(
        message=reply.message,
        stop=reply.stop,
        iteration=turn.iteration + 1,
        attempt=turn.attempt + 1,
        model=reply.model or route.model,
        response_id=reply.response_id,
        usage=reply.usage,
        duration_ms=watch.elapsed_ms(),
        first_token_ms=watch.first_token_ms,
        cost=cost.amount if cost else None,
        price_date=cost.price_date if cost else None,
        counted=journal.derived(Bill).take() if manifest.budgets else None,
    )
