"""Lost: a model call that was cut off with its process, in a turn that ends without another. It counts in full."""

from __future__ import annotations

from holdfast.facts.budgets import BudgetSettled
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.turn.measure import at_most
from holdfast.turn.prompt import Prompt, build_request


async def count_lost(journal: Journal, manifest: Manifest) -> None:
    """Stage what the call that was under way may have used. Raises `StoreError`."""
    await journal.history.recall(journal.state)
    state = journal.state
    request = await build_request(state, journal.derived(Prompt), manifest, journal.store.get_blob)
    route = manifest.route(journal.running.route)
    most, _ = at_most(request, journal, manifest, route)
    journal.stage(BudgetSettled(amount=most, how="assumed"))
