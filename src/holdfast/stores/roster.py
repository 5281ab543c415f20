"""The roster, as stores keep it: each listing as JSON, beside what it is looked up by."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from holdfast.errors import StoreCorrupt, UsageError
from holdfast.store import Listing

LONGEST_TEXT = 1_000
"""Bytes of a name, of who said so, and of why."""

Row = tuple[str, str, str, str]
"""Kind, name, status, and everything as JSON."""

_listings = msgspec.json.Decoder(Listing)


def row_of(listing: Listing) -> Row:
    """The listing as a row. Raises `UsageError` for text that a row cannot hold."""
    for what, text in (("the name", listing.name), ("by", listing.by), ("the reason", listing.reason)):
        if not isinstance(text, str):
            raise UsageError(f"{what} of a listing is {text!r}; it must be text")
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise UsageError(f"{what} of a listing is not valid Unicode: {text!r}") from None
        if size > LONGEST_TEXT or "\0" in text:
            raise UsageError(
                f"{what} of a listing has at most {LONGEST_TEXT} bytes, and no NUL: {text[:80]!r}"
            )
    if not listing.name:
        raise UsageError(f"an {listing.kind} without a name cannot be listed; give it a name of its own")
    return listing.kind, listing.name, listing.status, msgspec.json.encode(listing).decode()


def read_rows(bodies: Iterable[str]) -> list[Listing]:
    """The listings. Raises `StoreCorrupt` for one that cannot be read."""
    try:
        return [_listings.decode(body) for body in bodies]
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(
            f"a row of the roster cannot be read ({error}); mend it or restore a backup"
        ) from error
