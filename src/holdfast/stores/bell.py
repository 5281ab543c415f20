"""What somebody who waits for a write hears."""

from __future__ import annotations

import asyncio
from asyncio import Future


class Bell:
    """Wakes everybody who waits for it, on one event loop."""

    def __init__(self) -> None:
        self.waiting: set[Future[None]] = set()
        """Who does."""

    def ring(self) -> None:
        """Wake all who wait now."""
        while self.waiting:
            waiting = self.waiting.pop()
            if not waiting.done():
                waiting.set_result(None)

    async def heard(self, seconds: float) -> None:
        """Return when it rings, or after so many seconds."""
        ringing: Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.add(ringing)
        try:
            await asyncio.wait((ringing,), timeout=max(seconds, 0))
        finally:
            self.waiting.discard(ringing)
