"""Answers recorded without running anything, for sessions whose functions only their own program has."""

from __future__ import annotations

import getpass
from typing import Literal

from holdfast import Runtime

Verdict = Literal["approved", "denied"]


def who() -> str:
    """Whoever answers at this terminal."""
    return f"{getpass.getuser()} (holdfast)"


async def record(runtime: Runtime, session_id: str, ask_id: str, verdict: Verdict, reason: str) -> None:
    """Record the answer; whoever drives the session goes on with it."""
    session = await runtime.open(session_id, drive=False)
    answer = session.approve if verdict == "approved" else session.deny
    await answer(ask_id, by=who(), reason=reason)
