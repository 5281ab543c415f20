"""Every error Holdfast raises, in one tree, which docs/errors.md draws whole. Its branches:

    HoldfastError
    ├── UsageError            the caller asked for something that cannot be; nothing was written
    │   └── ConfigError       the layers cannot become a manifest
    ├── StoreError            the log could not be read or written
    │   └── Superseded        another writer holds this session; this one must stop
    ├── DeterminismError      a replayed call differs from its recorded claim
    ├── DriverError           a model call failed (recorded as a fact, not raised at users)
    ├── ToolError             raised by a tool's author: its message is what the model reads
    └── WorkspaceError        a path or file operation was refused, with a stable code

A model or tool that fails is data, not an exception: the turn goes on or ends with a status. Exceptions
are for programmer errors and broken stores.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

DriverErrorKind = Literal[
    "authentication",
    "quota",
    "rate_limit",
    "overloaded",
    "timeout",
    "stalled",
    "too_large",
    "invalid_request",
    "content_policy",
    "broken_stream",
    "connection",
    "unsupported",
    "server_error",
]

RETRYABLE: frozenset[DriverErrorKind] = frozenset(
    {"rate_limit", "overloaded", "timeout", "stalled", "broken_stream", "connection", "server_error"}
)
"""Failures that a second identical request may survive."""


ELSEWHERE: frozenset[DriverErrorKind] = RETRYABLE | {"authentication", "quota", "too_large", "unsupported"}
"""Failures that the same request to another model may survive."""

NOT_FOUND = 404
"""The status of a model that a provider does not have."""


class HoldfastError(Exception):
    """Something went wrong in Holdfast."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or type(self).__doc__ or type(self).__name__)


class UsageError(HoldfastError):
    """The call cannot be carried out as asked; nothing was written."""


class ConfigError(UsageError):
    """The configuration layers cannot become a manifest."""


class ManifestDrifted(ConfigError):
    """A turn stays owed, as it was begun under another manifest. `report` (a `DriftReport`) says what changed."""

    def __init__(self, message: str = "", report: Any = None) -> None:
        super().__init__(message)
        self.report = report


class CannotPin(ManifestDrifted):
    """The manifest that a turn was begun under cannot be made again. `report.changes` says what of it."""


class UnknownModel(ConfigError):
    """No driver serves this model name."""


class UnknownCapability(ConfigError):
    """No capability is registered under this name."""


class CapabilityCycle(ConfigError):
    """Capabilities depend on each other in a circle."""


class MissingService(ConfigError):
    """A tool or capability needs a service that this session does not lend."""


class MissingExecutor(ConfigError):
    """A hook is a command that does not exist, or cannot be executed."""


class HooksRefused(ConfigError):
    """The hooks of a directory are not trusted, or not fit to be."""


class MissingCredential(ConfigError):
    """A model needs a credential that was not found."""


class ToolSignatureError(ConfigError):
    """A tool's signature cannot be turned into a schema."""


class OutputTypeError(ConfigError):
    """No model can be held to this output type."""


class NoOutput(UsageError):
    """The turn gave no answer of the type that was asked for. `candidate` is the last one it tried."""

    def __init__(self, message: str = "", *, candidate: str = "") -> None:
        super().__init__(message)
        self.candidate = candidate


class InputRejected(UsageError):
    """The input cannot be accepted."""


class UnknownSession(UsageError):
    """No session has this id in this store."""


class UnknownTurn(UsageError):
    """No turn has this id in this session."""


class UnknownAsk(UsageError):
    """No open ask has this id in this session."""


class AskClosed(UnknownAsk):
    """This ask is not open any more: it was answered, expired or was voided, or its turn ended."""


class AnswerRejected(InputRejected):
    """This answer does not fit what was asked."""


class AnswerForbidden(UsageError):
    """Whoever answers may not: the agent itself, or somebody who is not among those who may."""


class UnknownGrant(UsageError):
    """No grant has this id in this session."""


class UnknownCall(UsageError):
    """No call in doubt has this id in this session."""


class CursorRefused(UsageError):
    """A subscription cannot go on from this cursor.

    `why` is `damaged` (not a cursor), `scope` (of another filter), `future` (the log does not reach that far: it lost
    its end, as from an older backup) or `store` (of another store).
    """

    def __init__(
        self, message: str = "", *, why: Literal["damaged", "scope", "future", "store"] = "damaged"
    ) -> None:
        super().__init__(message)
        self.why = why


class TransactionUnsupported(UsageError):
    """This store has no transactions to lend to tools; `SQLiteStore` and `PostgresStore` have."""


class AccountsUnsupported(UsageError):
    """This store keeps no accounts, which budgets of principals and organisations need; ours all do."""


class RosterUnsupported(UsageError):
    """This store keeps no roster of agents, which archiving needs; ours all do."""


class AgentUnavailable(UsageError):
    """An agent or harness was archived or deleted and takes nothing new. `listing` (a `Listing`) says by whom."""

    def __init__(self, message: str = "", listing: Any = None) -> None:
        super().__init__(message)
        self.listing = listing


class UnknownBudget(UsageError):
    """No budget has this name in this session."""


class RuntimeClosed(UsageError):
    """The runtime is closed; open it with `async with Runtime(...)`."""


class StoreError(HoldfastError):
    """The store could not do its work."""


class Superseded(StoreError):
    """Another writer holds this session; this one has stopped and wrote nothing."""


class SequenceConflict(Superseded):
    """The log moved on: the expected sequence is not the last one."""


class StaleEpoch(Superseded):
    """A newer writer has taken over this session."""


class AccountExceeded(StoreError):
    """An account has no room for what was to be reserved or spent; nothing was written.

    `account` is its name; `limit` its ceiling, with what it was raised by; `used` what is used and set aside on it;
    `asked` what did not fit.
    """

    def __init__(
        self, message: str = "", *, account: str = "", limit: object = 0, used: object = 0, asked: object = 0
    ) -> None:
        super().__init__(message)
        self.account = account
        self.limit = Decimal(str(limit))
        self.used = Decimal(str(used))
        self.asked = Decimal(str(asked))


class SessionHeld(StoreError):
    """Another process is at work on this session. `owner` is its name, `seconds` what is left of its lease."""

    def __init__(self, message: str = "", *, owner: str = "", seconds: float = 0.0) -> None:
        super().__init__(message)
        self.owner = owner
        self.seconds = seconds


class StoreClosed(StoreError):
    """The store is closed, or this process was forked from the one that opened it."""


class ForeignFile(StoreError):
    """The file exists and is not a Holdfast database."""


class StoreTooNew(StoreError):
    """The database was written by a newer Holdfast."""


class StoreReadOnly(StoreError):
    """The database cannot be written."""


class StoreLocked(StoreError):
    """Another process kept the database locked for too long."""


class StoreFull(StoreError):
    """The disk is full; nothing of this write was kept."""


class StoreCorrupt(StoreError):
    """The database is damaged or the disk failed; no further write is acknowledged."""


class UnknownBlob(StoreError):
    """No blob has this digest."""


class NotEncodable(StoreError):
    """A value cannot be written as JSON."""


class TransactionLost(StoreError):
    """A tool's transaction was rolled back before it could be committed; nothing of it was kept."""


class OutcomeUnknown(StoreError):
    """The store did not answer the commit; whether it happened must be read back."""


class DeterminismError(HoldfastError):
    """A replayed call is not the call that was claimed."""


class DriverError(HoldfastError):
    """A model call failed.

    `kind` is one of `DriverErrorKind`; `status` the HTTP status where there was one; `retry_after` the seconds
    the provider asked to wait, where it did. The message is fit for a log; it never holds a credential.
    """

    def __init__(
        self,
        kind: DriverErrorKind,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind: DriverErrorKind = kind
        self.status = status
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.kind in RETRYABLE

    @property
    def elsewhere(self) -> bool:
        """Whether the same request to another model may succeed."""
        return self.kind in ELSEWHERE or self.status == NOT_FOUND


class ToolError(HoldfastError):
    """Raise this in a tool to tell the model, in your own words, what went wrong."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or ("the tool did not say why it failed" if type(self) is ToolError else ""))


class PaymentRefused(ToolError):
    """A payment was not made: the host's authority, or a budget, does not allow it. An authority raises it, too."""


WorkspaceCode = Literal[
    "traversal",
    "null-byte",
    "control-char",
    "unsafe-char",
    "not-utf8",
    "path-too-long",
    "name-too-long",
    "too-deep",
    "empty-name",
    "root-protected",
    "is-directory",
    "not-directory",
    "not-found",
    "not-empty",
    "reserved",
    "protected",
    "read-only",
    "symlink",
    "special-file",
    "windows-name",
    "conflict",
    "quota-exceeded",
    "not-text",
    "too-large",
    "bad-pattern",
    "too-slow",
    "io-error",
]


class WorkspaceError(HoldfastError):
    """A file operation was refused. `code` is stable; the message names only the virtual path."""

    def __init__(self, code: WorkspaceCode, message: str) -> None:
        super().__init__(message)
        self.code: WorkspaceCode = code
