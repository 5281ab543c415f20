"""Tortures the runtime for as long as you like, and says how it bore it.

make torture                                        everything, at the large size
make torture TORTURE_ARGS='--minutes 5'             everything, in five minutes
python -m scripts.torture --only kills --kills 500  one part

kills   real processes that die by SIGKILL, on SQLite and Postgres
power   what a power cut may leave of a SQLite file
races   processes that fight over sessions on a Postgres which goes away at times
pairs   every canonical turn killed at every boundary, and again at every boundary of the recovery
walks   simulated clients and processes that do, and die, as it comes to their minds

Ends with a table on stdout, and with 1 when anything went wrong; each failure says how to see it again.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import msgspec

from holdfast.testing import Ledger, crashtest
from tests.crash.campaign import Campaign, Tally, told
from tests.crash.cases import Case, cases_from, every_boundary
from tests.stores.postgres.races import RaceLost, race
from tests.stores.postgres.server import NoServer, Server
from tests.stores.power import run as cut_the_power
from tests.testing.canonical import TURNS
from tests.testing.test_random_walk import Rivals, World

SHARES = {"kills": 0.5, "power": 0.15, "races": 0.1, "pairs": 0.15, "walks": 0.1}
"""Of the minutes that there are."""
SILENCE = 2.0
"""Seconds between two lines of progress."""
CHUNK = 500
"""Images of the disk between two looks at the clock."""

T = TypeVar("T")

Found = tuple[dict[str, int], list[str]]
"""Figures, and failures in words."""


@dataclass
class Part:
    """One kind of torture: what it counted, what went wrong, and how long it may go on."""

    name: str
    until: float = float("inf")
    figures: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    _spoken: float = 0.0
    _told: int = 0

    def add(self, found: Found) -> None:
        """Take in more of it, and say so now and then."""
        self.figures.update(found[0])
        self.failures += found[1]
        self.tell_failures()
        self.progress()

    def tell_failures(self) -> None:
        """Each on stderr as soon as it is known: the run may be stopped before its end."""
        for failure in self.failures[self._told :]:
            print(f"{self.name}: FAILED: {failure}", file=sys.stderr, flush=True)
        self._told = len(self.failures)

    def progress(self) -> None:
        """A line on stderr, unless there was one a moment ago."""
        if time.monotonic() - self._spoken > SILENCE:
            self._spoken = time.monotonic()
            print(f"{self.name}: {self.line()}", file=sys.stderr, flush=True)

    def line(self) -> str:
        """The figures in a row."""
        figures = ", ".join(f"{n:,} {what}" for what, n in self.figures.items())
        return f"{figures or 'nothing yet'}, {len(self.failures)} failures"

    @property
    def over(self) -> bool:
        """Whether its time is up."""
        return time.monotonic() > self.until


def main(arguments: list[str] | None = None) -> int:
    """Do it all; the exit code."""
    options = read(arguments)
    if options.case:
        return play_again(options)
    parts: list[Part] = []
    started = time.monotonic()
    for name in options.only:
        part = Part(name)
        left = started + 60 * options.minutes - time.monotonic()
        coming = options.only[len(parts) :]
        part.until = time.monotonic() + left * SHARES[name] / sum(SHARES[it] for it in coming)
        begun = time.monotonic()
        PARTS[name](part, options)
        part.seconds = time.monotonic() - begun
        if not part.figures and not part.failures:
            part.failures.append("nothing was tried: there was no time for it")
        parts.append(part)
    report(parts, options)
    return int(any(part.failures for part in parts))


def read(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    first, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "torture", description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument(
        "--only", default=",".join(SHARES), type=names, help="parts, with commas between them"
    )
    parser.add_argument("--seed", type=int, default=1, help="where the seeds begin (1)")
    parser.add_argument("--kills", type=int, default=20_000, help="SIGKILLs in all (20,000)")
    parser.add_argument("--postgres-kills", type=int, help="how many of them on Postgres (one in forty)")
    parser.add_argument("--images", type=int, default=20_000, help="power cuts (20,000)")
    parser.add_argument("--races", type=float, default=120.0, help="seconds of races on Postgres (120)")
    parser.add_argument("--walks", type=int, default=5_000, help="random walks of each kind (5,000)")
    parser.add_argument("--orders", type=int, default=2, help="orders of steps in which pairs are tried (2)")
    parser.add_argument("--servers", type=int, default=Campaign.servers, help="fork servers side by side")
    parser.add_argument(
        "--plant", default="", help="a bug to plant, which must be found: the name of one in bugs.py"
    )
    parser.add_argument("--case", default="", help="play this one case (JSON, as a failure shows it)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args(arguments)
    if options.postgres_kills is None:
        options.postgres_kills = options.kills // 40
    return options


def names(text: str) -> list[str]:
    """The parts in this list. Raises for one that there is not."""
    found = text.split(",")
    if unknown := set(found) - SHARES.keys():
        raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; there are {', '.join(SHARES)}")
    return found


def play_again(options: argparse.Namespace) -> int:
    """One case, as a failure told it."""
    case = msgspec.json.decode(options.case, type=Case)
    with postgres() if case.store == "postgres" else nullcontext("") as url:
        tally = Campaign(servers=1, url=url, plant=options.plant).play([case])
    print(tally)
    return int(bool(tally.failures))


@contextmanager
def postgres() -> Iterator[str]:
    """The one at `TEST_POSTGRES_URL`, or one that is here for as long as it is needed."""
    if given := os.environ.get("TEST_POSTGRES_URL"):
        yield given
        return
    server = Server(fsync=False)
    try:
        server.start()
        yield server.url
    finally:
        server.remove()


# The parts ------------------------------------------------------------------------------------------------------------


def kills(part: Part, options: argparse.Namespace) -> None:
    """Processes die by SIGKILL: first at every append boundary, then wherever seeds say."""
    on_sqlite = options.kills - options.postgres_kills
    cases = chain(every_boundary(), cases_from(options.seed))
    tally = Tally()
    _campaign(part, options, tally, on_sqlite, "").play(cases)
    if not options.postgres_kills or part.over:
        return
    try:
        with postgres() as url:
            _campaign(part, options, tally, options.kills, url).play(cases_from(options.seed, "postgres"))
    except NoServer as error:
        part.failures.append(f"no kills on Postgres: {error}")


def _campaign(part: Part, options: argparse.Namespace, tally: Tally, enough: int, url: str) -> Campaign:
    def watch(tally: Tally) -> None:
        part.figures = Counter(
            kills=tally.kills, cases=tally.cases, **{f"calls {what}": tally.counts[what] for what in SEEN}
        )
        part.figures["calls"] = tally.counts["calls"]
        part.failures = [told(verdict) for verdict in tally.failures]
        part.tell_failures()
        part.progress()

    return Campaign(
        kills=enough,
        until=part.until,
        servers=options.servers,
        url=url,
        plant=options.plant,
        watch=watch,
        tally=tally,
    )


SEEN = ("in doubt", "ran again")
"""What became of calls, as a campaign counts it."""


def power(part: Part, options: argparse.Namespace) -> None:
    """Images of a disk after a power cut."""
    seed = options.seed
    while part.figures["images"] < options.images and not part.over:
        amount = min(CHUNK, options.images - part.figures["images"])
        counts = cut_the_power(amount, seed)
        bad = sum(n for what, n in counts.items() if what != "images")
        failure = (
            f"{counts}\n    again: python -m scripts.torture --only power --images {amount} --seed {seed}"
        )
        part.add((counts, [failure] if bad else []))
        seed += 1


def races(part: Part, options: argparse.Namespace) -> None:
    """Eight processes, and a server that does not stay."""
    seconds = min(options.races, max(part.until - time.monotonic(), 5.0))
    again = f"again: python -m scripts.torture --only races --races {seconds:.0f} --seed {options.seed}"
    try:
        part.add((race(seconds, 8, options.seed), []))
    except RaceLost as lost:
        part.failures.append(f"{lost}\n    {again}")
    except NoServer as error:
        part.failures.append(f"no races: {error}")


def pairs(part: Part, options: argparse.Namespace) -> None:
    """Every canonical turn, killed everywhere and again everywhere."""
    orders = range(options.seed, options.seed + options.orders)
    _side_by_side(part, _pairs_of, ((turn.name, seed) for seed in orders for turn in TURNS))


def _pairs_of(job: tuple[str, int]) -> Found:
    name, seed = job
    turn = next(turn for turn in TURNS if turn.name == name)
    ledger = Ledger()
    approver = turn.approver() if turn.approver else None
    report = crashtest(
        turn.agents(ledger), turn.inputs, approver=approver, ledger=ledger, limit=1_000_000, seed=seed
    )
    again = f"again: python -m scripts.torture --only pairs --orders 1 --seed {seed}"
    failures = [f"{name} (seed {seed})\n{report}\n    {again}"] if report.problems else []
    figures = {
        "turns": 1,
        "boundaries": report.boundaries,
        "runs": report.scenarios,
        "simulated kills": report.kills,
    }
    return figures, failures


def walks(part: Part, options: argparse.Namespace) -> None:
    """Simulated worlds, one for each seed."""
    _side_by_side(part, _walk, range(options.seed, options.seed + options.walks))


def _walk(seed: int) -> Found:
    deaths = 0
    failures = []
    for kind in (World, Rivals):
        try:
            world = kind(seed)
            deaths += sum(world.live(doomed=True) for _ in range(1 + seed % 4))
            world.live(doomed=False)
            world.check()
        except Exception as error:  # whatever it is, it must not be
            again = f"again: python -m scripts.torture --only walks --walks 1 --seed {seed}"
            where = "".join(traceback.format_exception(error)[-3:])
            failures.append(f"{kind.__name__} {seed}: {where}    {again}")
    return {"walks": 2, "simulated deaths": deaths}, failures


def _side_by_side(part: Part, work: Callable[[T], Found], jobs: Iterable[T]) -> None:
    """Share the jobs among processes, as long as there is time."""
    waiting = iter(jobs)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=context) as pool:
        width = 2 * multiprocessing.cpu_count()
        running: set[Future[Found]] = {pool.submit(work, job) for job in islice(waiting, width)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for job in done:
                part.add(job.result())
            if not part.over:
                running |= {pool.submit(work, job) for job in islice(waiting, len(done))}


PARTS: dict[str, Callable[[Part, argparse.Namespace], None]] = {
    "kills": kills,
    "power": power,
    "races": races,
    "pairs": pairs,
    "walks": walks,
}


# The table ------------------------------------------------------------------------------------------------------------


def report(parts: list[Part], options: argparse.Namespace) -> None:
    """Failures first, then the figures."""
    for part in parts:
        for failure in part.failures:
            print(f"{part.name}: {failure}\n")
    print(f"{'part':<8} {'seconds':>8} {'failures':>8}  figures")
    for part in parts:
        figures = ", ".join(f"{n:,} {what}" for what, n in part.figures.items())
        if part.figures["kills"]:
            figures += f" ({part.figures['kills'] * 60 / part.seconds:,.0f} kills a minute)"
        print(f"{part.name:<8} {part.seconds:>8.1f} {len(part.failures):>8}  {figures}")
    if options.json:
        options.json.write_text(json.dumps(written(parts, options), indent=2) + "\n")


def written(parts: list[Part], options: argparse.Namespace) -> dict[str, object]:
    """The same for machines."""
    return {
        "seed": options.seed,
        "python": platform.python_version(),
        "machine": platform.platform(),
        "parts": {
            part.name: {
                "seconds": round(part.seconds, 1),
                "figures": dict(part.figures),
                "failures": part.failures,
            }
            for part in parts
        },
    }


if __name__ == "__main__":
    sys.exit(main())
