"""Plants bugs, one at a time, and tells which test notices each.

make mutants                                          all of them
make mutants MUTANTS_ARGS='--only claim-not-flushed'  one
python -m scripts.mutants --list                      what is planted, and where

The bugs are data, in `mutants.toml` beside this file: a text that stands exactly once in a source file, what stands
there instead, and the tests that must notice. They are planted in copies of the project, never in the checkout, and
the tests that are asked must pass in the copy before anything is planted.

Ends with a table on stdout, and with 1 when a bug was not noticed or could not be planted.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Literal

import msgspec
from msgspec import Struct

ROOT = Path(__file__).resolve().parent.parent
PLANTS = Path(__file__).with_name("mutants.toml")
PACKAGE = Path("src", "holdfast")
LEFT_OUT = (".git", ".venv", ".hypothesis", "*_cache", "__pycache__", "dist", "build")

ONE_TEST = 60
"""Seconds that one test may take, with a bug or without."""
ALL_TESTS = 300
"""Seconds that all the tests of one bug may take."""

ELSEWHERE = 97
RUN = f"""
import sys, holdfast
if holdfast.__file__ != sys.argv[1]:
    sys.exit({ELSEWHERE})
import pytest
sys.exit(pytest.main(sys.argv[2:]))
"""
"""Runs tests, unless the package that they would test is another than the one with the bug."""

Fate = Literal["caught", "survived", "hung", "does not fit", "not tried"]


class Mutant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bug, and who must notice it."""

    name: str
    planted: str
    """In words."""
    file: str
    """Within the package."""
    find: str
    """What stands in it, exactly once."""
    put: str
    """What stands there instead."""
    tests: tuple[str, ...]
    """What pytest is given."""
    shows: Literal["failure", "hang"] = "failure"
    """How it is noticed. A test that runs out of time counts only for a bug that shows as a hang."""


class Planted(Struct, frozen=True, kw_only=True):
    """What became of a bug."""

    number: int
    name: str
    where: str
    planted: str
    fate: Fate
    by: str = ""
    """The test that noticed; otherwise what is the matter."""
    seconds: float = 0.0


class Ran(Struct, frozen=True, kw_only=True):
    """What became of some tests."""

    code: int | None
    """None: they did not end in time."""
    output: str

    @property
    def failed(self) -> tuple[str, str]:
        """The first test that failed, and why; two empty texts when none did."""
        found = re.search(r"^FAILED (\S.*?)(?: - (.*))?$", self.output, re.MULTILINE)
        return (found[1], found[2] or "") if found else ("", "")

    @property
    def passed(self) -> bool:
        """Whether all went well, and there was something to go well."""
        return self.code == 0 and re.search(r"\b\d+ passed", self.output) is not None

    @property
    def last(self) -> str:
        """What they said last."""
        return next((line for line in reversed(self.output.splitlines()) if line.strip()), "nothing was said")


class Unfit(Exception):
    """The bug cannot be planted."""


class Copy:
    """A copy of the project, in which bugs are planted."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._tests: subprocess.Popen[str] | None = None
        shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)

    @contextmanager
    def with_(self, mutant: Mutant) -> Iterator[None]:
        """With this bug in it. Raises `Unfit`."""
        path = self._place / PACKAGE / mutant.file
        source = path.read_text(encoding="utf-8") if path.is_file() else ""
        changed = plant(mutant, source)
        try:
            self._write(path, changed)
            yield
        finally:
            self._write(path, source)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()  # it is told by its second and size alone whether it is the old one

    def run(self, tests: Sequence[str]) -> Ran:
        """Run these tests, up to the first that fails."""
        package = self._place / PACKAGE / "__init__.py"
        options = ["-x", "-q", "--tb=no", "--no-header", f"--timeout={ONE_TEST}", "-p", "no:cacheprovider"]
        command = [sys.executable, "-c", RUN, str(package), *options, "--hypothesis-seed=0", *tests]
        environment = os.environ | {"PYTHONPATH": str(self._place / "src"), "COLUMNS": "400"}
        environment.setdefault("HOLDFAST_FIXTURES", str(ROOT.parent / "shared" / "fixtures"))
        self._tests = subprocess.Popen(
            command,
            cwd=self._place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            output, _ = self._tests.communicate(timeout=ALL_TESTS)
        except subprocess.TimeoutExpired:
            return Ran(code=None, output="")
        finally:
            self.stop()
        return Ran(code=self._tests.returncode, output=output)

    def stop(self) -> None:
        """End the tests that run, and what they started."""
        if self._tests is not None and self._tests.poll() is None:
            os.killpg(self._tests.pid, signal.SIGKILL)
            self._tests.wait()


class Field:
    """Copies for as many as work at once, and what their tests say while nothing is planted."""

    def __init__(self, place: Path, jobs: int) -> None:
        self._copies = [Copy(place / str(number)) for number in range(jobs)]
        self._free: SimpleQueue[Copy] = SimpleQueue()
        for copy in self._copies:
            self._free.put(copy)
        self._lock = Lock()
        self._locks: dict[tuple[str, ...], Lock] = {}
        self._sound: dict[tuple[str, ...], Ran] = {}

    def try_out(self, number: int, mutant: Mutant) -> Planted:
        """Plant it, and see who notices."""
        started = time.monotonic()
        fate, by = self._fate(mutant)
        return Planted(
            number=number,
            name=mutant.name,
            where=where(mutant),
            planted=mutant.planted,
            fate=fate,
            by=by,
            seconds=round(time.monotonic() - started, 1),
        )

    def stop(self) -> None:
        """End whatever runs."""
        for copy in self._copies:
            copy.stop()

    def _fate(self, mutant: Mutant) -> tuple[Fate, str]:
        copy = self._free.get()
        try:
            with copy.with_(mutant):
                pass
            sound = self._without_bug(copy, mutant.tests)
            if not sound.passed:
                return "not tried", f"without the bug: {sound.failed[0] or _why(sound)}"
            with copy.with_(mutant):
                return judge(mutant, copy.run(mutant.tests))
        except Unfit as error:
            return "does not fit", str(error)
        finally:
            self._free.put(copy)

    def _without_bug(self, copy: Copy, tests: tuple[str, ...]) -> Ran:
        """What these tests say of the project as it is; they are asked once."""
        with self._lock:
            lock = self._locks.setdefault(tests, Lock())
        with lock:
            if tests not in self._sound:
                self._sound[tests] = copy.run(tests)
            return self._sound[tests]


def plant(mutant: Mutant, source: str) -> str:
    """The source with the bug in it. Raises `Unfit` when its place is not there, or is not one place."""
    places = source.count(mutant.find)
    if places != 1:
        raise Unfit(
            f"its text stands {places} times in {PACKAGE / mutant.file}, and must stand there once: look what became "
            f"of that code, and mend `find` in {PLANTS.name}"
        )
    changed = source.replace(mutant.find, mutant.put)
    if changed == source:
        raise Unfit("it changes nothing: `find` and `put` are the same")
    if mutant.file.endswith(".py"):
        try:
            compile(changed, mutant.file, "exec")
        except SyntaxError as error:
            raise Unfit(f"with it the file is no Python: {error}") from error
    return changed


def judge(mutant: Mutant, ran: Ran) -> tuple[Fate, str]:
    """What it means that the tests went like this with the bug."""
    test, why = ran.failed
    if ran.passed:
        return "survived", "no test noticed"
    late = ran.code is None or (ran.code == 1 and "from pytest-timeout" in why)
    if late:
        return ("caught" if mutant.shows == "hang" else "hung"), test or "none of its tests ended"
    if ran.code == 1 and test:
        return "caught", test
    return "not tried", _why(ran)


def _why(ran: Ran) -> str:
    if ran.code is None:
        return f"the tests took longer than {ALL_TESTS} s"
    if ran.code == ELSEWHERE:
        return "another holdfast was imported than the copy's"
    return f"pytest ended with {ran.code}: {ran.last}"


def where(mutant: Mutant) -> str:
    """The file, and the line in it where the bug begins, as the checkout has it."""
    path = ROOT / PACKAGE / mutant.file
    before, found, _ = (
        path.read_text(encoding="utf-8").partition(mutant.find) if path.exists() else ("", "", "")
    )
    return f"{mutant.file}:{before.count(chr(10)) + 1}" if found else mutant.file


def read_plants(path: Path) -> list[Mutant]:
    """The bugs in this file."""
    mutants = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8"))["mutant"], list[Mutant])
    names = [mutant.name for mutant in mutants]
    if len(set(names)) != len(names):
        raise ValueError(f"two bugs in {path} have one name")
    return mutants


def table(results: Sequence[Planted]) -> str:
    """A row for each bug."""
    rows = [("", "name", "where", "what was planted", "seconds", "caught by")]
    for it in results:
        by = it.by if it.fate == "caught" else f"{it.fate.upper()}: {it.by}"
        rows.append((str(it.number), it.name, it.where, it.planted, f"{it.seconds:.1f}", by))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for number, name, place, planted, seconds, by in rows:
        left = f"{name:{widths[1]}}  {place:{widths[2]}}  {planted:{widths[3]}}"
        lines.append(f"{number:>{widths[0]}}  {left}  {seconds:>{widths[4]}}  {by}".rstrip())
    return "\n".join(lines)


def summary(results: Sequence[Planted], seconds: float) -> str:
    """All of it in a line."""
    caught = sum(it.fate == "caught" for it in results)
    return f"{caught} of {len(results)} planted bugs were caught, in {seconds:.0f} s"


def run(chosen: Sequence[tuple[int, Mutant]], jobs: int) -> list[Planted]:
    """Try these bugs out, so many at a time; a line on stderr for each."""
    results: list[Planted] = []
    with TemporaryDirectory(prefix="holdfast-mutants-") as place, ThreadPoolExecutor(jobs) as pool:
        field = Field(Path(place).resolve(), jobs)
        waiting = [pool.submit(field.try_out, *pair) for pair in chosen]
        try:
            for done in as_completed(waiting):
                result = done.result()
                results.append(result)
                line = f"{len(results)}/{len(chosen)} {result.name}: {result.fate}, {result.by}"
                print(f"{line} ({result.seconds:.1f} s)", file=sys.stderr, flush=True)
        finally:
            for future in waiting:
                future.cancel()
            field.stop()
    return sorted(results, key=lambda it: it.number)


def main(arguments: list[str] | None = None) -> int:
    """Do it all; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.mutants", description="Plants bugs, and tells which test notices each."
    )
    parser.add_argument("--list", action="store_true", help="only say what would be planted, and where")
    parser.add_argument(
        "--only", metavar="NAME", action="append", default=[], help="this bug; may be repeated"
    )
    parser.add_argument("--jobs", metavar="N", type=int, default=2, help="bugs that are tried at once (2)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the table there, too, as JSON")
    parser.add_argument("--plants", metavar="FILE", type=Path, default=PLANTS, help="other bugs than ours")
    options = parser.parse_args(arguments)
    mutants = read_plants(options.plants)
    if strangers := set(options.only) - {mutant.name for mutant in mutants}:
        parser.error(f"there is no {', '.join(sorted(strangers))}; --list shows what there is")
    if options.jobs < 1:
        parser.error("--jobs must be 1 or more")
    chosen = [(n, it) for n, it in enumerate(mutants, 1) if not options.only or it.name in options.only]
    if options.list:
        for number, mutant in chosen:
            print(f"{number:>2}  {mutant.name}  {where(mutant)}  {mutant.planted}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends the tests that run, too
    started = time.monotonic()
    results = run(chosen, options.jobs)
    took = time.monotonic() - started
    print(table(results))
    print(summary(results, took))
    if options.json:
        figures = {"seconds": round(took, 1), "mutants": msgspec.to_builtins(results)}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return int(any(it.fate != "caught" for it in results))


if __name__ == "__main__":
    sys.exit(main())
