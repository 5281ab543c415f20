"""The fact that a turn met another manifest than the one it was begun under."""

from __future__ import annotations

from typing import ClassVar, Literal

from holdfast.facts.fact import Fact

OnDrift = Literal["continue", "pin", "refuse"]
"""What happens to a turn that is gone on with where its layers make another manifest now: it goes on under that one;
under the one it was begun with, as far as that can be made again; or not at all, until a person says so."""


class Drifted(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A turn that was begun under one manifest is gone on with where its layers make another one."""

    kind: ClassVar[str] = "manifest.drifted"
    before: str
    """The digest of the manifest that it ran under so far."""
    after: str
    """The digest of the manifest that its layers make now."""
    choice: OnDrift = "continue"
    """`continue`: it runs under `after` from here on. `pin`: still under `before`."""
    changes: tuple[str, ...] = ()
    """The fields that differ, in short; the documents of both are blobs under their digests."""
    by: str = ""
    """Who wanted it to go on, where a person did."""
    layers: str = ""
    """The digest of the blob with the layers that make `after`."""


FACTS: tuple[type[Fact], ...] = (Drifted,)
"""The kinds of this subject."""
