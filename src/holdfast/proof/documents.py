"""Documents: what manifests say, kept in the store under their digests, each once."""

from __future__ import annotations

from contextlib import suppress

from holdfast.errors import StoreReadOnly, UnknownBlob
from holdfast.manifest import Manifest
from holdfast.services import Key
from holdfast.store import Store, digest_of

REMEMBERED = 10_000
"""Digests of which it is remembered that they are kept. One that was forgotten is kept again, which does nothing."""


class Documents:
    """The documents of manifests, and of the layers that they were made of, in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, None] = {}

    def has(self, manifest: Manifest) -> bool:
        """Whether it is known to be kept already."""
        return manifest.digest in self._kept

    async def keep(self, manifest: Manifest) -> None:
        """See to it that the document of this manifest is in the store, durably. Raises `StoreError`."""
        await self.put(manifest.document, manifest.digest)

    async def put(self, body: bytes, digest: str = "") -> str:
        """See to it that these bytes are in the store; their digest. A store that is only read keeps nothing."""
        digest = digest or digest_of(body)
        if digest not in self._kept:
            with suppress(StoreReadOnly):  # then nothing can run under this manifest either
                await self._store.put_blob(body)
                self._kept[digest] = None
            if len(self._kept) > REMEMBERED:
                del self._kept[next(iter(self._kept))]
        return digest

    async def get(self, digest: str) -> bytes | None:
        """The document of a manifest by its digest; None where no runtime kept it."""
        with suppress(UnknownBlob):
            return await self._store.get_blob(digest)
        return None


DOCUMENTS: Key[Documents] = Key("manifest documents")
