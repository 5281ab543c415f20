"""Every error Holdfast raises, in one tree.

    HoldfastError
    ├── UsageError            the caller asked for something that cannot be; nothing was written
    │   ├── ConfigError       the layers cannot become a manifest
    │   │   ├── UnknownModel
    │   │   ├── UnknownCapability
    │   │   ├── CapabilityCycle
    │   │   ├── MissingService
    │   │   ├── MissingCredential
    │   │   └── ToolSignatureError
    │   ├── InputRejected
    │   ├── UnknownSession
    │   ├── UnknownTurn
    │   ├── UnknownAsk
    │   ├── UnknownCall
    │   ├── TransactionUnsupported
    │   └── RuntimeClosed
    ├── StoreError            the log could not be read or written
    │   ├── Superseded        another writer holds this session; this one must stop
    │   │   ├── SequenceConflict
    │   │   └── StaleEpoch
    │   ├── SessionHeld       another process is at work on this session; try again later
    │   ├── StoreClosed
    │   ├── ForeignFile
    │   ├── StoreTooNew
    │   ├── StoreReadOnly
    │   ├── StoreLocked
    │   ├── StoreFull
    │   ├── StoreCorrupt
    │   ├── UnknownBlob
    │   ├── NotEncodable
    │   ├── TransactionLost   a tool's transaction was rolled back before its outcome could be recorded with it
    │   └── OutcomeUnknown    the commit may or may not have happened; the log is read back
    ├── DeterminismError      a replayed call differs from its recorded claim
    ├── DriverError           a model call failed (recorded as a fact, not raised at users)
    ├── ToolError             raised by a tool's author: its message is what the model reads
    └── WorkspaceError        a path or file operation was refused, with a stable code

A model or tool that fails is data, not an exception: the turn goes on or ends with a status. Exceptions
are for programmer errors and broken stores.
"""

from __future__ import annotations

from typing import Literal

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


class UnknownModel(ConfigError):
    """No driver serves this model name."""


class UnknownCapability(ConfigError):
    """No capability is registered under this name."""


class CapabilityCycle(ConfigError):
    """Capabilities depend on each other in a circle."""


class MissingService(ConfigError):
    """A tool or capability needs a service that this session does not lend."""


class MissingCredential(ConfigError):
    """A model needs a credential that was not found."""


class ToolSignatureError(ConfigError):
    """A tool's signature cannot be turned into a schema."""


class InputRejected(UsageError):
    """The input cannot be accepted."""


class UnknownSession(UsageError):
    """No session has this id in this store."""


class UnknownTurn(UsageError):
    """No turn has this id in this session."""


class UnknownAsk(UsageError):
    """No open ask has this id in this session."""


class UnknownCall(UsageError):
    """No call in doubt has this id in this session."""


class TransactionUnsupported(UsageError):
    """This store has no transactions to lend to tools; `SQLiteStore` and `PostgresStore` have."""


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
