"""The table of crash points says what the tests do."""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from tests.conftest import ROOT
from tests.failure_model.points import EVERYWHERE, POINTS, Missing, Tested

HERE = Path(__file__).parent
TEST = re.compile(r"::test_cp(?P<number>\d\d)_\w+(?:\[(?P<back_end>memory|sqlite|postgres)?)?")


def named_after_points() -> dict[str, set[str]]:
    """The back ends of the tests that are named after each point, as pytest collects them."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", str(HERE)]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stdout + listed.stderr
    found: defaultdict[str, set[str]] = defaultdict(set)
    for match in TEST.finditer(listed.stdout):
        found[match["number"]].add(match["back_end"] or "")
    return found


def test_every_crash_point_is_in_the_table() -> None:
    assert list(POINTS) == [f"{number:02}" for number in range(1, 88)]
    assert all(point.why for point in POINTS.values() if isinstance(point, Missing))


def test_every_point_that_exists_has_a_test_named_after_it_on_every_back_end() -> None:
    found = named_after_points()
    for number, point in POINTS.items():
        ran = found.pop(number, set())
        if isinstance(point, Tested):
            assert ran, f"CP{number} is said to be tested; no test is named test_cp{number}_…"
            assert ran & set(EVERYWHERE) == set(point.on), f"CP{number} is tested on {ran}, not on {point.on}"
        else:
            assert not ran, f"CP{number} is said to be missing, and is tested: say so in points.py"
    assert not found, f"there is no crash point CP{', CP'.join(found)}"
