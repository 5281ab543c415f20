"""What a session lends to its tools: services under typed keys, collected in a `Scope`.

    files = ctx.scope[FILES]          # typed as Files; no casts, no context object that grows

A tool or capability names the keys it needs; a missing one is an error when the manifest is made, not mid-turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from msgspec import Struct

from holdfast.errors import MissingService, PaymentRefused, UsageError
from holdfast.events import Fact

T = TypeVar("T")


class Key(Generic[T]):
    """The name of a service, carrying its type. Two keys are the same only when they are the same object."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Key({self.name!r})"


@runtime_checkable
class PerCall(Protocol):
    """A service that gives each tool call its own view.

    Facts put into `outbox` are recorded in one append with the call's outcome: all of them, or none.
    """

    def for_call(self, call_id: str, outbox: list[Fact]) -> object:
        """The view for this call."""
        ...


class Later:
    """A service that is made when it is first asked for."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], object]) -> None:
        self.make = make


class Scope:
    """Services by key. Read-only; a call's scope also knows the call's outbox."""

    __slots__ = ("_call_id", "_outbox", "_values")

    def __init__(
        self,
        values: dict[Key[object], object] | None = None,
        *,
        call_id: str = "",
        outbox: list[Fact] | None = None,
    ) -> None:
        self._values: dict[Any, Any] = values if values is not None else {}
        self._call_id = call_id
        self._outbox = outbox
        if outbox is None and not all(isinstance(key, Key) for key in self._values):
            strange = next(key for key in self._values if not isinstance(key, Key))
            raise UsageError(
                f"a service is lent under its key, not under {strange!r}: services={{FILES: ...}} for the files, or a "
                "Key(...) of your own"
            )

    def __getitem__(self, key: Key[T]) -> T:
        """The service under this key; raises `MissingService` when the session lends none."""
        try:
            value: Any = self._values[key]
        except KeyError:
            raise MissingService(
                f"this session lends no service {key.name!r}; "
                "pass it to Runtime(services=...) or runtime.session(services=...)"
            ) from None
        if isinstance(value, Later):
            value = self._values[key] = value.make()
        if self._outbox is not None and isinstance(value, PerCall):
            value = value.for_call(self._call_id, self._outbox)
        return value  # type: ignore[no-any-return]  # what stands under a key is of its type

    def __contains__(self, key: Key[T]) -> bool:
        return key in self._values

    def keys(self) -> Iterable[Key[object]]:
        """Every key that is lent."""
        return self._values.keys()

    def for_call(self, call_id: str, outbox: list[Fact]) -> Scope:
        """The same services, seen by one tool call."""
        return Scope(self._values, call_id=call_id, outbox=outbox)


class PaymentRequest(Struct, frozen=True, kw_only=True):
    """What a tool wants paid. The authority may charge less, and never more."""

    amount: Decimal
    """At most."""
    payee: str
    purpose: str = ""
    currency: str = "USD"
    key: str = ""
    """The same key is paid once. Empty: it follows from the call, and from how many payments it has made before."""


class Receipt(Struct, frozen=True, kw_only=True):
    """What a tool learns of a payment that was made."""

    id: str
    """As the authority names it."""
    amount: Decimal
    """What was charged."""
    currency: str = "USD"


class Payments(Protocol):
    """The authority that pays. The application lends it; credentials and whatever it exchanges stay in there."""

    async def pay(self, request: PaymentRequest) -> Receipt:
        """Pay, once for each `request.key`: the same key again gives the same receipt. Raises `PaymentRefused`."""
        ...


class NoPayments:
    """Refuses every payment: nobody has lent an authority."""

    async def pay(self, request: PaymentRequest) -> Receipt:
        """See `Payments.pay`."""
        raise PaymentRefused(
            "this application makes no payments; lend an authority with Runtime(services={PAYMENTS: ...})"
        )


NO_PAYMENTS = NoPayments()

PAYMENTS: Key[Payments] = Key("payments")
"""Who pays for what tools buy: nobody, unless the application lends an authority."""


class FileInfo(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One entry of a directory."""

    path: str
    """Canonical: absolute below the workspace root, such as `/src/app.py`."""
    size: int = 0
    """Bytes; 0 for a directory."""
    digest: str = ""
    """`sha256:…` of the content, where it is known without reading it."""
    is_directory: bool = False
    read_only: bool = False
    updated_at: datetime | None = None


class Files(Protocol):
    """A workspace's files, wherever they live. Every path is checked by `workspace.paths` rules first.

    All methods raise `WorkspaceError` with a stable code; messages name the virtual path only.
    """

    async def read(self, path: str) -> bytes:
        """The whole content."""
        ...

    async def write(self, path: str, data: bytes, *, expect: str | None = None) -> FileInfo:
        """Make the file hold `data`, creating parents. With `expect` (a digest, or "" for "must not exist") it is a
        compare-and-set: `conflict` when the present content is another."""
        ...

    async def delete(self, path: str, *, recursive: bool = False) -> bool:
        """Remove a file or directory; False when there was none. A full directory needs `recursive`."""
        ...

    async def list(self, path: str = "/", *, recursive: bool = False) -> list[FileInfo]:
        """The entries below a directory, sorted by path. `not-found` and `not-directory` are errors."""
        ...

    async def stat(self, path: str) -> FileInfo:
        """What stands at this path."""
        ...


FILES: Key[Files] = Key("files")
"""The session's workspace files: on its log, unless the application lends others."""
