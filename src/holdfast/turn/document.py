"""Document: what a turn runs under is in the store before the turn begins.

A manifest is kept when its layers are resolved. That of a turn whose answer must have a shape says so, too, and is one
more, which is kept when such a turn is first asked for.
"""

from __future__ import annotations

from holdfast.facts.answers import OutputContract
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.proof.documents import DOCUMENTS
from holdfast.turn.step import Begin


async def keep_document(journal: Journal, manifest: Manifest | None, contract: OutputContract | None) -> None:
    """Keep what a turn with this contract runs under, unless that is done. Raises `StoreError`."""
    if contract is not None and manifest is not None and DOCUMENTS in journal.scope:
        await journal.scope[DOCUMENTS].keep(manifest.with_output(contract))


async def keep_begun(first: Begin, journal: Journal, manifest: Manifest) -> None:
    """Keep what the turn that begins so runs under. Raises `StoreError`."""
    if first.inputs and first.inputs[0].contract is not None:
        await keep_document(journal, manifest, first.inputs[0].contract)


def is_kept(first: Begin, journal: Journal, manifest: Manifest) -> bool:
    """Whether the turn may begin at once: what it runs under is in the store."""
    contract = first.inputs[0].contract if first.inputs else None
    if contract is None or DOCUMENTS not in journal.scope:
        return True
    return journal.scope[DOCUMENTS].has(manifest.with_output(contract))
