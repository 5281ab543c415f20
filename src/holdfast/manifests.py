"""Manifests: layers resolved once, remembered, and kept in the store under their digest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from msgspec import Struct

from holdfast.agent import Agent, Harness, read_layers, write_layers
from holdfast.config import Config, Layer
from holdfast.errors import ConfigError
from holdfast.manifest import Manifest
from holdfast.proof.documents import Documents
from holdfast.registry import Registry
from holdfast.resolve import Lent, resolve
from holdfast.state import State
from holdfast.store import Store

KEPT = 1_000
"""Manifests that are remembered. One that was forgotten is made again from its layers."""

Stack = tuple[Layer, ...]
"""Layers, from the root up."""

ManifestKey = tuple[tuple[int, ...], Lent]
"""What a manifest follows from: the identities of its layers, and the services that are lent."""


class Resolved(Struct, frozen=True, kw_only=True):
    """A manifest, the layers it was made of (held, so that their identity stays theirs), and where they are written."""

    layers: Stack
    manifest: Manifest
    written: str


class Manifests:
    """The manifests of one runtime: `base` is below every other layer; `agents` are known by name."""

    def __init__(self, store: Store, registry: Registry, base: Config, agents: Iterable[Agent]) -> None:
        self._store = store
        self.documents = Documents(store)
        """What every manifest that was made here says."""
        self._registry = registry
        self._base = (Layer(name="runtime", config=base),) if base != Config() else ()
        self._agents = {agent.name: agent for agent in agents}
        self._kept: dict[ManifestKey, Resolved] = {}

    def know(self, agent: Agent) -> None:
        """Find this agent's sessions their agent again."""
        self._agents[agent.name] = agent

    async def of(self, layers: Stack, lent: Lent) -> Resolved:
        """The manifest of these layers with these services. Raises `ConfigError` when they do not make one."""
        key = tuple([id(layer) for layer in layers]), lent
        return self._kept.get(key) or await self._resolve(key, layers)

    async def manifest(self, layers: Stack, lent: Lent) -> Manifest:
        """What a turn under these layers would run under. Raises `ConfigError`."""
        return (await self.of(layers, lent)).manifest

    async def _resolve(self, key: ManifestKey, layers: Stack) -> Resolved:
        made = resolve((*self._base, *layers), names=self._registry, lent=key[1])
        written = await self.documents.put(write_layers(layers, made.origins))
        manifest = replace(made, written=written)
        await self.documents.keep(manifest)
        found = self._kept[key] = Resolved(layers=layers, manifest=manifest, written=written)
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return found

    async def recall(self, state: State, *, drive: bool) -> Stack:
        """The layers this session was made with, as far as they can be had.

        Raises `ConfigError` when it is to be driven and has functions that must be given again.
        """
        known = self._agents.get(state.agent)
        if known is not None and not state.harness:
            return known.layers
        layers, missing = read_layers(await self._store.get_blob(state.layers)) if state.layers else ((), ())
        if missing and drive:
            raise ConfigError(
                f"session {state.session_id} was made with {', '.join(missing)}, which only your program can give "
                f"back: pass its agent to runtime.open(id, agent), or to Runtime(agents=[...]) as {state.agent!r}"
            )
        return layers


def stack(harness: Harness | None, agent: Agent | None, config: Config | None) -> Stack:
    """These layers, from the root up."""
    return (*(harness.layers if harness else ()), *(agent.layers if agent else ()), *own(config))


def own(config: Config | None) -> Stack:
    """The layer of a session itself."""
    return (Layer(name="session", config=config),) if config is not None else ()
