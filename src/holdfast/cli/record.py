"""Who speaks at this terminal, for the log."""

from __future__ import annotations

import getpass


def who() -> str:
    """Whoever answers at this terminal."""
    return f"{getpass.getuser()} (holdfast)"
