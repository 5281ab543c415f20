"""Manifests: layers resolved once, remembered, and kept in the store under their digest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct, structs

from holdfast.agent import Agent, Harness, read_layers, write_layers
from holdfast.config import Config, Layer
from holdfast.errors import ConfigError, StoreCorrupt, UnknownBlob
from holdfast.manifest import Manifest
from holdfast.privacy.redact import Redactor
from holdfast.proof.documents import Documents
from holdfast.registry import Registry
from holdfast.resolve import Lent, resolve
from holdfast.state import State
from holdfast.store import Store

KEPT = 1_000
"""Manifests that are remembered. One that was forgotten is made again from its layers."""

KINDS = ("harness", "agent", "session")
"""Of a session's layers, from the root up: how their names begin."""

Stack = tuple[Layer, ...]
"""Layers, from the root up."""

ManifestKey = tuple[tuple[int, ...], Lent]
"""What a manifest follows from: the identities of its layers, and the services that are lent."""


class Resolved(Struct, frozen=True, kw_only=True):
    """A manifest, and the layers it was made of: held, so that their identity stays theirs."""

    layers: Stack
    manifest: Manifest


class Given(Struct, frozen=True, kw_only=True):
    """What a program gives in place of a session's own layers, when it opens it."""

    harness: Harness | None
    agent: Agent | None
    config: Config | None

    def taken(self, known: Agent | None) -> dict[str, Stack]:
        """The layers that need not come from the log, by kind; `known` is the session's agent by name."""
        agent = self.agent or known
        layers = {
            "harness": self.harness.layers if self.harness else (),
            "agent": agent.layers if agent else (),
            "session": own(self.config),
        }
        return {kind: found for kind, found in layers.items() if found}


class Manifests:
    """The manifests of one runtime: `base` is below every other layer; `agents` are known by name.

    What `redactor` knows as secret is not written down: a configuration that holds it makes no manifest.
    """

    def __init__(
        self, store: Store, registry: Registry, base: Config, agents: Iterable[Agent], redactor: Redactor
    ) -> None:
        self._store = store
        self._redactor = redactor
        self.documents = Documents(store)
        """What every manifest that was made here says."""
        self._registry = registry
        self._base = (Layer(name="runtime", config=base),) if base != Config() else ()
        self._agents = {agent.name: agent for agent in agents}
        self._kept: dict[ManifestKey, Resolved] = {}
        self._recalled: dict[tuple[str, frozenset[str]], tuple[Stack, tuple[str, ...]]] = {}

    def know(self, agent: Agent) -> None:
        """Find this agent's sessions their agent again."""
        self._agents[agent.name] = agent

    async def of(self, layers: Stack, lent: Lent) -> Manifest:
        """The manifest of these layers with these services. Raises `ConfigError` when they do not make one."""
        key = tuple([id(layer) for layer in layers]), lent
        kept = self._kept.get(key)
        return kept.manifest if kept is not None else await self._resolve(key, layers)

    async def _resolve(self, key: ManifestKey, layers: Stack) -> Manifest:
        made = resolve((*self._base, *layers), names=self._registry, lent=key[1])
        body = write_layers(layers, made.origins)
        self._check_secrets(made.document, body)
        written = await self.documents.put(body)
        manifest = structs.replace(made, written=written)
        await self.documents.keep(manifest)
        self._kept[key] = Resolved(layers=layers, manifest=manifest)
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return manifest

    def _check_secrets(self, document: bytes, layers: bytes) -> None:
        if not (self._redactor.finds(document) or self._redactor.finds(layers)):
            return
        told = msgspec.json.decode(document)
        where = [name for name, value in told.items() if self._redactor.finds(msgspec.json.encode(value))]
        raise ConfigError(
            f"{', '.join(where) or 'what the layers bring'}: a value that is to be kept secret stands here, and what a "
            "turn runs under is kept in the store; take it out, and lend it to the tool that needs it: services=..."
        )

    async def recall(self, state: State, given: Given, *, drive: bool) -> Stack:
        """The layers of this session: what is given in place of its own, its agent where that is known, else its log's.

        Raises `ConfigError` when it is to be driven and has functions that must be given again.
        """
        taken = given.taken(self._agents.get(state.agent))
        try:
            kept, missing = await self._read(state.layers, frozenset(taken))
        except (StoreCorrupt, UnknownBlob):
            if given.agent is None or (state.harness and given.harness is None):
                raise
            kept, missing = (), ()
        if missing and drive:
            raise ConfigError(
                f"session {state.session_id} was made with {', '.join(missing)}, which only your program can give "
                f"back: pass its {_lacking(state, taken)}"
            )
        parts = {kind: tuple(it for it in kept if it.name.partition(" ")[0] == kind) for kind in KINDS}
        return tuple(layer for kind in KINDS for layer in taken.get(kind, parts[kind]))

    async def _read(self, digest: str, without: frozenset[str]) -> tuple[Stack, tuple[str, ...]]:
        """Layers that a session was made with, and what is missing from them; the same objects each time."""
        if not digest:
            return (), ()
        if (found := self._recalled.get((digest, without))) is None:
            found = read_layers(await self._store.get_blob(digest), without)
            self._recalled[digest, without] = found
            if len(self._recalled) > KEPT:
                del self._recalled[next(iter(self._recalled))]
        return found


def _lacking(state: State, taken: Mapping[str, Stack]) -> str:
    """What of a session's own has functions that nobody gave: told to the program."""
    ways = {
        "agent": f"agent to runtime.open(id, agent), or to Runtime(agents=[...]) as {state.agent!r}",
        "harness": f"harness {state.harness!r} to runtime.open(id, harness=...)",
        "session": "config to runtime.open(id, config=...)",
    }
    has = {"agent": state.agent, "harness": state.harness, "session": True}
    return "; its ".join(how for kind, how in ways.items() if kind not in taken and has[kind])


def stack(harness: Harness | None, agent: Agent | None, config: Config | None) -> Stack:
    """These layers, from the root up."""
    return (*(harness.layers if harness else ()), *(agent.layers if agent else ()), *own(config))


def own(config: Config | None) -> Stack:
    """The layer of a session itself."""
    return (Layer(name="session", config=config),) if config is not None else ()
