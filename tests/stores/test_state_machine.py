"""Whatever is asked of a SQLite store, in whatever order: it does what the memory store does."""

from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from holdfast.stores.boot_clock import NANOSECONDS, BootClock
from holdfast.stores.sqlite import SQLiteStore
from tests.stores.side_by_side import SideBySide


class Unsynced(apsw.VFS):
    """Files that are not waited for: what is looked at here is not what is left after a power cut."""

    def __init__(self) -> None:
        super().__init__("unsynced", "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return UnsyncedFile("", name, flags)


class UnsyncedFile(apsw.VFSFile):
    def xSync(self, flags: int) -> None:  # noqa: N802
        """Leave it to the system."""


class LaterClock(BootClock):
    """The machine's clock, some time later."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def now(self) -> int:
        return super().now() + int(self.seconds * NANOSECONDS)


class WithSQLite(SideBySide):
    """The other store is a file."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.clock = LaterClock()

    def another(self) -> SQLiteStore:
        store = SQLiteStore(Path(self.folder.name) / "log.db", vfs="unsynced")
        store._clock = self.clock
        return store

    async def pass_time(self, seconds: float) -> None:
        self.clock.seconds += seconds

    async def clean_up(self) -> None:
        viewer = SQLiteStore(Path(self.folder.name) / "log.db", read_only=True)
        await viewer.open()
        problems = [problem for problem in await viewer.check() if problem.kind != "snapshot"]
        await viewer.close()
        self.folder.cleanup()
        assert problems == []


def test_a_sqlite_store_does_what_the_memory_store_does() -> None:
    steps = settings(max_examples=100, stateful_step_count=40, report_multiple_bugs=False)
    vfs = Unsynced()
    try:
        run_state_machine_as_test(WithSQLite, settings=steps)
    finally:
        vfs.unregister()
