"""A session's log in miniature: facts are folded by the real `State`, blobs lie in a dict."""

import asyncio
from datetime import UTC, datetime

from holdfast.errors import UnknownBlob
from holdfast.events import Event, EventContext, Fact, decode_event, encode_event
from holdfast.fold import apply
from holdfast.ids import new_id
from holdfast.state import State
from holdfast.store import digest_of
from holdfast.workspace.log_files import LogFiles


class Bench:
    """What `LogFiles` needs of a session, with everything that was recorded."""

    def __init__(self) -> None:
        self.state = State(session_id=new_id("session"))
        self.blobs: dict[str, bytes] = {}
        self.facts: list[Fact] = []

    async def record(self, *facts: Fact) -> None:
        """Write as JSON, read back, fold; other tasks get a turn before it is done, as with a real store."""
        await asyncio.sleep(0)
        for fact in facts:
            event = Event(
                id=new_id("event"),
                type=fact.kind,
                ts=datetime.now(UTC),
                session_id=self.state.session_id,
                sequence=self.state.sequence + 1,
                context=EventContext(),
                data=fact,
            )
            apply(self.state, decode_event(encode_event(event)))
            self.facts.append(fact)
        await asyncio.sleep(0)

    async def put_blob(self, data: bytes) -> str:
        await asyncio.sleep(0)
        self.blobs[digest_of(data)] = data
        return digest_of(data)

    async def get_blob(self, digest: str) -> bytes:
        if digest not in self.blobs:
            raise UnknownBlob(digest)
        return self.blobs[digest]

    def files(self, *, max_file_bytes: int = 10_000_000, quota_bytes: int = 50_000_000) -> LogFiles:
        return LogFiles(
            index=lambda: self.state.files,
            record=self.record,
            put_blob=self.put_blob,
            get_blob=self.get_blob,
            max_file_bytes=max_file_bytes,
            quota_bytes=quota_bytes,
        )
