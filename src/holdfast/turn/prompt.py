"""The prompt: what the model is sent next."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from holdfast.driver import Previous, Request, Transcript
from holdfast.manifest import Manifest, Route
from holdfast.messages import BlobRef, Content, Message
from holdfast.state import State
from holdfast.store import Store
from holdfast.turn.blobs import Get, Held, blobs_in, fetched
from holdfast.turn.fit import typed
from holdfast.turn.input import take_in
from holdfast.turn.repair import repair

USER = "user_id"
"""The entry of a session's metadata that providers are sent; nothing else of it is."""


class Prompt:
    """The transcript as it is sent: repaired and, per protocol, encoded once, then only extended."""

    def __init__(self) -> None:
        self._transcript = Transcript()
        self._taken = 0
        self._ids: set[str] = set()
        self._retold = 0
        self._summary: Message | None = None
        self.blobs: list[BlobRef] = []
        """Those that the transcript refers to, in its order."""

    def upto(self, messages: Sequence[Message], retold: int, summary: Message | None = None) -> Transcript:
        """The transcript of these messages, after the summary of earlier ones if there is one: those of the last time
        and perhaps more, as long as `retold` and `summary` stay."""
        if self._retold != retold or self._summary is not summary:
            told = [] if summary is None else repair([summary])
            self._transcript, self._taken, self._ids, self._retold = Transcript(told), 0, set(), retold
            self._summary, self.blobs = summary, blobs_in(told)
        if self._taken < len(messages):
            more = repair(messages[self._taken :], self._ids)
            self._transcript.extend(more)
            self._taken = len(messages)
            self.blobs += blobs_in(more)
        return self._transcript


async def build_request(state: State, prompt: Prompt, manifest: Manifest, get: Get) -> Request:
    """The exact request that comes next. Raises `StoreError`."""
    messages = prompt.upto(state.as_told(state.messages), state.retold, state.summary)
    route = asked(state, manifest)
    request = Request(
        model=route.name,
        messages=messages,
        instructions=manifest.instructions,
        tools=manifest.specs,
        settings=manifest.settings,
        metadata=metadata_of(state),
        previous=_previous(state, messages, manifest) if manifest.settings.continue_responses else None,
        blobs=await fetched(prompt.blobs, get) if prompt.blobs else {},
    )
    contract = state.turn.contract if state.turn is not None else None
    return request if contract is None else typed(request, route, contract)


def asked(state: State, manifest: Manifest) -> Route:
    """The model that is asked next."""
    return manifest.route(state.turn.route if state.turn is not None else 0)


def _previous(state: State, messages: Transcript, manifest: Manifest) -> Previous | None:
    """The last reply, where whoever is asked knows it: it came from there, and nothing before it was changed since."""
    last, route = state.continuation, state.turn.route if state.turn is not None else 0
    if last is None or (last.manifest, last.route) != (manifest.digest, route):
        return None
    place = len(messages) - 1
    while place >= 0 and messages[place].role != "assistant":
        place -= 1
    if place in (-1, len(messages) - 1) or messages[place].id != last.message_id:
        return None
    return Previous(response_id=last.response_id, covers=place + 1)


def metadata_of(state: State) -> dict[str, str]:
    """What a provider may know of the session: which one it is, and on whose behalf, where its metadata say that."""
    user = state.metadata.get(USER)
    return {"session_id": state.session_id} | ({USER: user} if user else {})


class Inspection(Struct, frozen=True, kw_only=True):
    """The exact request that would be sent next, without sending it."""

    request: Request
    body: bytes
    """As the driver would put it on the wire."""
    manifest: Manifest


async def inspect(state: State, content: Content | None, manifest: Manifest, store: Store) -> Inspection:
    """The request that would follow, after this input if any. Leaves everything as it is."""
    held = Held()

    async def get(digest: str) -> bytes:
        return held[digest] if digest in held else await store.get_blob(digest)

    upcoming = [] if content is None else [await take_in(content, held.put)]
    queued = [entry.message for entry in state.queue]
    seen = State(
        session_id=state.session_id,
        metadata=state.metadata,
        turn=state.turn,
        messages=[*state.messages, *queued, *upcoming],
        summary=state.summary,
        continuation=state.continuation,
        views=state.views,
    )
    request = await build_request(seen, Prompt(), manifest, get)
    return Inspection(request=request, body=asked(seen, manifest).driver.encode(request), manifest=manifest)


async def once(content: Content | Sequence[Message]) -> tuple[Transcript, dict[str, bytes]]:
    """A transcript outside of any session, and the bytes of its images and documents. Raises `InputRejected`."""
    given: object = content
    said = [it for it in given if isinstance(it, Message)] if isinstance(given, Sequence) else []
    if said and len(said) == len(content):
        return Transcript(repair(said)), {}
    held = Held()
    return Transcript([await take_in(content, held.put)]), held  # type: ignore[arg-type]  # not only messages: content
