"""Processes that really die by SIGKILL, anywhere and again and again, and what is left of what they did.

With `test_boundaries` these are the 500 of every test run. `make torture` plays many more.
"""

import asyncio
import itertools
import os

import asyncpg
import pytest

from tests.crash.bugs import BUGS
from tests.crash.campaign import Campaign, Tally
from tests.crash.cases import Case, Kill, case_of, cases_from
from tests.crash.scenarios import SCENARIOS

ON_SQLITE = 270
ON_POSTGRES = 50
PLAYED = 7_000_000
"""Where the seeds of this run begin. Another beginning is another run: `HOLDFAST_CRASH_SEED`."""


def first_seed() -> int:
    return int(os.environ.get("HOLDFAST_CRASH_SEED", PLAYED))


def check(tally: Tally) -> None:
    if os.environ.get("HOLDFAST_CRASH_FIGURES"):
        print(f"\n{tally}")  # noqa: T201
    assert not tally.failures, str(tally)


@pytest.mark.timeout(240)
def test_nothing_is_lost_and_nothing_doubled_by_kills_at_any_moment() -> None:
    tally = Campaign(kills=ON_SQLITE).play(cases_from(first_seed()))
    check(tally)
    assert tally.kills >= ON_SQLITE
    assert {"after append", "before append", "in commit", "in tool", "any"} <= tally.places.keys()
    assert sum(tally.scenarios[scenario.name] > 0 for scenario in SCENARIOS) >= len(SCENARIOS) - 2
    assert tally.counts["in doubt"] > tally.counts["in doubt, and done"] > 0
    assert tally.counts["ran again"] > 0


@pytest.mark.timeout(240)
def test_nothing_is_lost_and_nothing_doubled_on_postgres(postgres_url: str) -> None:
    tally = Campaign(kills=ON_POSTGRES, url=postgres_url).play(cases_from(first_seed(), "postgres"))
    check(tally)
    assert tally.kills >= ON_POSTGRES
    assert tally.counts["effects"] > 0
    assert asyncio.run(schemas_left(postgres_url)) == 0


async def schemas_left(url: str) -> int:
    connection = await asyncpg.connect(url)
    found = await connection.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'case\\_%'")
    await connection.close()
    return int(found)


SHOWS = {
    "claim not flushed": ("one tool", "after effect", "took effect 2 times"),
    "run again": ("one tool", "after effect", "took effect 2 times"),
    "keys forgotten": ("plain answer", "after append", "accepted"),
    "always in doubt": ("idempotent", "before effect", "is told as in doubt"),
}
"""Where each planted bug shows, and in which words."""


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found_where_it_shows(bug: str) -> None:
    scenario, at, words = SHOWS[bug]
    case = Case(scenario=scenario, kills=(Kill(at=at),))
    (failure,) = Campaign(plant=bug, servers=1).play([case]).failures
    assert words in "\n".join(failure.problems)
    check(Campaign(servers=1).play([case]))


@pytest.mark.parametrize("bug", ["claim not flushed", "run again"])
def test_kills_at_any_moment_find_a_planted_bug(bug: str) -> None:
    tally = Campaign(plant=bug, kills=200, failures=1).play(cases_from(first_seed()))
    assert tally.failures, str(tally)


def test_a_process_that_always_dies_at_the_same_place_is_parked_until_a_person_wants_it_to_go_on() -> None:
    places = {"plain answer": "asking the model", "idempotent": "before effect"}
    cases = [Case(scenario=name, kills=(Kill(at=at),) * 6) for name, at in places.items()]
    tally = Campaign().play(cases)
    check(tally)
    assert tally.kills == 12
    assert tally.counts["parked"] == 2


def test_a_seed_makes_the_same_case_every_time() -> None:
    assert case_of(11) == case_of(11)
    cases = list(itertools.islice(cases_from(11), 40))
    assert cases[0] == case_of(11)
    assert len({case.scenario for case in cases}) > 10
