"""The calls that SQLite makes to the system, any of which can fail as the system would fail it.

No Python exception comes in between: what SQLite makes of the failure is what it makes of a real one. Syncs are not
among those that it lets anybody replace; a `Disk` fails those.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_ssize_t, c_void_p
from typing import Any

import apsw
import pytest

HALF = -1
"""Do half of a write."""

Fate = Callable[[str], int]
"""What becomes of the next call of this kind: 0, it happens; an errno, it fails with that; or `HALF`."""

_TRANSFER = ctypes.CFUNCTYPE(c_ssize_t, c_int, c_void_p, c_size_t, use_errno=True)
_TRANSFER_AT = ctypes.CFUNCTYPE(c_ssize_t, c_int, c_void_p, c_size_t, c_int64, use_errno=True)
_CALLS: dict[str, tuple[str, Any]] = {
    "open": ("open", ctypes.CFUNCTYPE(c_int, c_char_p, c_int, c_int, use_errno=True)),
    "read": ("read", _TRANSFER),
    "pread": ("read", _TRANSFER_AT),
    "pread64": ("read", _TRANSFER_AT),
    "write": ("write", _TRANSFER),
    "pwrite": ("write", _TRANSFER_AT),
    "pwrite64": ("write", _TRANSFER_AT),
    "ftruncate": ("truncate", ctypes.CFUNCTYPE(c_int, c_int, c_int64, use_errno=True)),
    "unlink": ("delete", ctypes.CFUNCTYPE(c_int, c_char_p, use_errno=True)),
}
"""SQLite's name of a call: which kind of step it is, and what goes in and out."""


@contextmanager
def fateful(fate: Fate) -> Iterator[None]:
    """Every such call of any connection in this process goes by its fate."""
    system = apsw.VFS("fateful", "unix")
    original_open, replaced = os.open, {}
    patch = pytest.MonkeyPatch()
    for name, (kind, shape) in _CALLS.items():
        if original := system.xGetSystemCall(name):
            replaced[name] = shape(_replacement(shape(original), kind, fate))
            system.xSetSystemCall(name, ctypes.cast(replaced[name], c_void_p).value or 0)

    def open_here(path: str, flags: int, mode: int = 0o777, **options: Any) -> int:
        if code := fate("open"):
            raise OSError(code, os.strerror(code), path)
        return original_open(path, flags, mode, **options)

    patch.setattr(os, "open", open_here)
    try:
        yield
    finally:
        patch.undo()
        for name in replaced:
            system.xSetSystemCall(name, 0)
        system.unregister()


def _replacement(original: Callable[..., int], kind: str, fate: Fate) -> Callable[..., int]:
    def replacement(*arguments: Any) -> int:
        code = fate(kind)
        if code > 0:
            ctypes.set_errno(code)
            return -1
        if code == HALF:
            handle, data, size, *rest = arguments
            return original(handle, data, max(size // 2, 1), *rest)
        return original(*arguments)

    return replacement
