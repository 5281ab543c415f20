"""Several processes on the same few sessions, readers that follow, and a server that restarts under them."""

from pathlib import Path

import pytest

from tests.stores.postgres.faulty_store import FaultyStore
from tests.stores.postgres.races import Race, race_on
from tests.stores.postgres.server import Server

SECONDS = 60.0
PROCESSES = 8
SEED = 1
FAULTS = {
    "fence": " wrote ",
    "early": "was acknowledged, and 0 of it",
    "twice": "is in the log 2 times",
    "change": "not what anybody meant",
    "lease": "before the lease of epoch",
    "epoch": " holders",
    "letter": "letter-",
    "skip": "a reader saw",
}
"""Bugs of `FaultyStore`, and what is said of each."""


@pytest.mark.timeout(4 * SECONDS)
def test_cp10_cp67_of_many_processes_one_writes_at_a_time_and_no_reader_misses_anything(
    own_server: Server,
) -> None:
    counts = race_on(own_server, SECONDS, PROCESSES, SEED)
    assert counts["wrote"] > 5 * SECONDS, "they hardly raced"
    assert counts["epochs"] > SECONDS, "they hardly took sessions from each other"
    assert counts["refused"] > 0, "nobody was ever too late"
    assert counts["restarts"] >= 2
    assert counts["killed"] > 0


def test_a_race_notices_each_bug_that_a_store_can_have(own_server: Server, tmp_path: Path) -> None:
    faulty = tuple(f"{FaultyStore.SIGN}{fault}" for fault in FAULTS)
    race = Race(own_server.url, tmp_path, SEED, sessions=(*faulty, "session_sound"))
    found, _ = race.run(6.0, 6)
    assert found["processes"] == found["session_sound"] == []
    unnoticed = [
        fault
        for fault, words in FAULTS.items()
        if not any(words in complaint for complaint in found[f"{FaultyStore.SIGN}{fault}"])
    ]
    assert unnoticed == []
