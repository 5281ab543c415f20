"""How often SQLite commits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import apsw


class Commits:
    """Counts what the database commits."""

    def __init__(self) -> None:
        self.number = 0

    def watch(self, connection: apsw.Connection) -> None:
        """Count this connection's commits from now on."""
        connection.set_commit_hook(self._count, id=self)

    def _count(self) -> bool:
        self.number += 1
        return False  # True would undo it


@contextmanager
def counted() -> Iterator[Commits]:
    """The commits of every connection that is opened inside."""
    commits = Commits()
    apsw.connection_hooks.append(commits.watch)
    try:
        yield commits
    finally:
        apsw.connection_hooks.remove(commits.watch)
