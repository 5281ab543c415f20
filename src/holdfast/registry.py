"""The registry: names become drivers and capabilities, and nothing is imported before it is named.

An entry is a factory, or a dotted string `"package.module:Name"` that is imported on first use. A runtime owns one
registry; there is no global one.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from holdfast.capability import Capability, CapabilityFactory, CapabilityRef
from holdfast.catalogue import ModelInfo, known, pricing, window
from holdfast.driver import Driver, Price
from holdfast.errors import ConfigError, UnknownCapability, UnknownModel
from holdfast.store import Store

DriverFactory = Callable[[], Driver]

DRIVERS: dict[str, str] = {
    "anthropic": "holdfast.drivers.anthropic:Anthropic",
    "gemini": "holdfast.drivers.gemini:Gemini",
    "openai": "holdfast.drivers.openai:OpenAI",
    "openai-chat": "holdfast.drivers.openai_chat:OpenAIChat",
}
"""Built-in drivers by vendor: the part of a model's name before the slash."""

MEMORY = "holdfast.stores.memory:MemoryStore"
"""What serves where no store is given."""

SQLITE = "holdfast.stores.sqlite:SQLiteStore"
"""What serves a store given as a path."""

POSTGRES = "holdfast.stores.postgres:PostgresStore"
"""What serves a store given as a URL like `postgresql://user@host/database`."""

CAPABILITIES: dict[str, str] = {
    "compaction": "holdfast.capabilities.compaction:compaction",
    "files": "holdfast.capabilities.files:files",
    "questions": "holdfast.capabilities.questions:questions",
    "workspace_hooks": "holdfast.capabilities.workspace_hooks:workspace_hooks",
}
"""Built-in capabilities by name."""


class Registry:
    """Drivers by vendor and capabilities by name. A driver is made once and shared by every turn.

    `models` says what is known of models by their whole names, such as `local/qwen3:8b`: their prices, above all. It
    counts before the built-in catalogue.
    """

    def __init__(
        self,
        *,
        drivers: Mapping[str, str | Driver | DriverFactory] | None = None,
        capabilities: Mapping[str, str | CapabilityFactory | Capability] | None = None,
        models: Mapping[str, ModelInfo] | None = None,
    ) -> None:
        self._drivers: dict[str, str | Driver | DriverFactory] = {**DRIVERS, **(drivers or {})}
        self._capabilities: dict[str, Any] = {**CAPABILITIES, **(capabilities or {})}
        self._models: dict[str, ModelInfo] = dict(models or {})
        self._live: dict[str, Driver] = {}

    @property
    def vendors(self) -> tuple[str, ...]:
        """The vendors that have a driver."""
        return tuple(self._drivers)

    @property
    def capability_names(self) -> tuple[str, ...]:
        """The capabilities that can be asked for."""
        return tuple(self._capabilities)

    def driver(self, model: str) -> tuple[Driver, str]:
        """The driver for `vendor/name` and the provider's own name. Raises `UnknownModel`."""
        vendor, slash, name = model.partition("/")
        if not slash or not name:
            raise UnknownModel(
                f"model {model!r} is not of the form vendor/name; vendors here are {_listing(self._drivers)}"
            )
        if vendor not in self._drivers:
            raise UnknownModel(
                f"no driver for vendor {vendor!r} of model {model!r}; {_suggest(vendor, self._drivers)}"
            )
        if vendor not in self._live:
            self._live[vendor] = _made(self._drivers[vendor])
        return self._live[vendor], name

    def pricing(self, model: str, driver: Driver) -> Price:
        """How replies of this driver to a request for this model are priced."""
        return pricing(model, getattr(driver, "host", ""), self._models.get(model))

    def info(self, model: str) -> ModelInfo | None:
        """What is known of a model by its whole name: how much it takes and gives, what it can do, what it costs. By
        `models` where they say so, else by the catalogue; None when neither knows it. Raises `UnknownModel`.
        """
        driver, _ = self.driver(model)
        return known(model, getattr(driver, "host", ""), self._models.get(model))

    def window(self, model: str, driver: Driver) -> int | None:
        """Tokens that this model can take in at most; None where that is not known."""
        return window(model, getattr(driver, "host", ""), self._models.get(model))

    def capability(self, ref: CapabilityRef) -> Capability:
        """The capability asked for. Raises `UnknownCapability`, or `ConfigError` for a bad configuration."""
        entry = self._capabilities.get(ref.name)
        if entry is None:
            raise UnknownCapability(
                f"no capability is called {ref.name!r}; {_suggest(ref.name, self._capabilities)}"
            )
        made: CapabilityFactory | Capability = load(entry) if isinstance(entry, str) else entry
        if not isinstance(made, Capability):
            found: object = made(ref.config)
            if not isinstance(found, Capability):
                raise ConfigError(f"the factory of capability {ref.name!r} made {found!r}, not a Capability")
            return found
        if ref.config:
            raise ConfigError(
                f"capability {ref.name!r} takes no configuration; it was given {sorted(ref.config)}"
            )
        return made

    def store(self, location: str | os.PathLike[str] | Store | None) -> Store:
        """The store at this location: a path is one SQLite file, `postgresql://…` a Postgres database.

        None is a new one in memory; a store is itself.
        """
        if location is None:
            memory: Store = load(MEMORY)()
            return memory
        if not isinstance(location, str | os.PathLike):
            return location
        is_url = isinstance(location, str) and location.startswith(("postgres://", "postgresql://"))
        store: Store = load(POSTGRES if is_url else SQLITE)(location)
        return store

    async def close(self) -> None:
        """Close every driver that was made here. When some fail, the first failure is raised after all were tried."""
        failures = []
        while self._live:
            _, driver = self._live.popitem()
            try:
                await driver.close()
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]


def _made(entry: str | Driver | DriverFactory) -> Driver:
    made: Any = load(entry) if isinstance(entry, str) else entry
    driver: Driver = made() if isinstance(made, type) or not hasattr(made, "reply") else made
    return driver


def load(dotted: str) -> Any:
    """What `package.module:name` names. Raises `ConfigError` when it cannot be imported."""
    module, _, name = dotted.partition(":")
    if not module or not name:
        raise ConfigError(f"{dotted!r} does not name anything; write package.module:Name")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{dotted} needs the package {error.name!r}, which is not installed") from error
    if not hasattr(found, name):
        raise ConfigError(f"{dotted} cannot be found: module {module} has no {name!r}")
    return getattr(found, name)


def _listing(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "(none)"


def _suggest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean {close[0]!r}?" if close else f"known here: {_listing(names)}"
