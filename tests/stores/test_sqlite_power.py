"""A power cut at any moment loses nothing that was acknowledged, and this would notice if it did."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from holdfast.stores import sqlite_file
from tests.stores import power
from tests.stores.disk import SECTOR, PowerCut, Step

IMAGES = 2_000
SEED = 2026
NORMAL = 1


def test_no_acknowledged_write_is_lost_in_2000_images() -> None:
    report = asyncio.run(power.cut(IMAGES, SEED))
    assert not report.problems, "\n".join(report.problems)
    assert report.counts() == {"images": IMAGES, "losses": 0, "corrupt": 0}


async def test_with_synchronous_normal_acknowledged_writes_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "FULL", NORMAL)
    report = await power.cut(120, SEED, [power.appends, power.a_runtime])
    assert report.losses > 20, "SQLite syncs the WAL only before a checkpoint then"
    assert report.corrupt == 0, "it loses commits then, and stays whole"


async def test_a_sync_of_the_wal_that_is_left_out_is_noticed() -> None:
    async def careless(path: Path, stage: pytest.MonkeyPatch) -> power.Recording:
        made = await power.appends(path, stage)
        steps = [Step("ack", "") if step == Step("sync", "log.db-wal") else step for step in made.steps]
        return power.Recording(made.before, steps, made.witness)

    assert (await power.cut(40, SEED, [careless])).losses > 0


async def test_a_checkpoint_that_is_not_synced_is_noticed() -> None:
    async def careless(path: Path, stage: pytest.MonkeyPatch) -> power.Recording:
        made = await power.appends(path, stage)
        steps = [Step("ack", "") if step == Step("sync", "log.db") else step for step in made.steps]
        return power.Recording(made.before, steps, made.witness)

    report = await power.cut(200, SEED, [careless])
    assert report.losses + report.corrupt > 0


def test_what_was_synced_is_found_and_of_the_rest_any_sector_may_be() -> None:
    dice = random.Random(SEED)
    cut = PowerCut({"old": b"o" * SECTOR})
    for step in (
        Step("open", "new"),
        Step("write", "new", 0, b"a" * 2 * SECTOR),
        Step("sync", "new"),
        Step("write", "new", SECTOR // 2, b"b" * 2 * SECTOR),
        Step("truncate", "old", 0),
    ):
        cut.happens(step)
    found = Counter(tuple(sorted(cut.files(dice).items())) for _ in range(500))
    sectors = {
        tuple(content[at : at + SECTOR].count(b"b") for at in range(0, 3 * SECTOR, SECTOR))
        for files in found
        for name, content in files
        if name == "new"
    }
    half = SECTOR // 2
    assert sectors == {(a, b, c) for a in (0, half) for b in (0, SECTOR) for c in (0, half)}
    assert {content for files in found for name, content in files if name == "old"} == {b"", b"o" * SECTOR}


def test_a_file_may_come_back_or_be_gone_until_something_is_synced() -> None:
    dice = random.Random(SEED)
    cut = PowerCut({"old": b"old"})
    cut.happens(Step("open", "new"))
    cut.happens(Step("delete", "old"))
    assert {tuple(sorted(cut.files(dice))) for _ in range(100)} == {(), ("new",), ("old",), ("new", "old")}
    cut.happens(Step("sync", "."))
    assert {tuple(sorted(cut.files(dice))) for _ in range(100)} == {("new",)}


def test_the_count_of_images_is_what_was_asked_for() -> None:
    assert power.run(10, SEED)["images"] == 10
