"""A planted bug is caught by a test that is named, or said to have survived; what proves nothing never counts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.mutants import PLANTS, Mutant, Ran, Unfit, judge, plant, read_plants
from tests.conftest import ROOT

PACKAGE = ROOT / "src" / "holdfast"
PLANTED = (
    '[[mutant]]\nname = "{}"\nplanted = "nothing"\nfile = "ids.py"\nfind = "{}"\nput = "{}"\ntests = ["{}"]\n'
)
HARMLESS = ("import re", "import re  # harmless", "tests/test_ids.py")


def mutants(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.mutants", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


def bug(**changed: str) -> Mutant:
    fields = {"name": "it", "planted": "a bug", "file": "a.py", "find": "one", "put": "two"} | changed
    return Mutant(**fields, tests=("tests",))  # type: ignore[arg-type]


def test_a_bug_is_caught_by_a_test_that_is_named_and_the_checkout_stays_as_it_is(tmp_path: Path) -> None:
    before = (PACKAGE / "turn" / "act.py").read_bytes()
    figures = tmp_path / "figures.json"
    done = mutants("--only", "approved-other-arguments", "--json", str(figures))
    assert done.returncode == 0, done.stdout + done.stderr
    noticed = "tests/turn/test_asks.py::test_what_was_approved_is_what_runs"
    assert noticed in done.stdout
    assert "1 of 1 planted bugs were caught" in done.stdout
    assert "1/1 approved-other-arguments: caught" in done.stderr
    assert [it["by"] for it in json.loads(figures.read_text())["mutants"]] == [noticed]
    assert (PACKAGE / "turn" / "act.py").read_bytes() == before


def test_what_nobody_notices_and_what_cannot_be_tried_end_it_with_1(tmp_path: Path) -> None:
    plants = tmp_path / "plants.toml"
    rows = [
        ("harmless", *HARMLESS),
        ("stranger", "a text that is not there", "", "tests/test_ids.py"),
        ("unasked", *HARMLESS[:2], "tests/test_that_there_is_not.py"),
    ]
    plants.write_text("\n".join(PLANTED.format(*row) for row in rows))
    done = mutants("--plants", str(plants), "--jobs", "1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "SURVIVED: no test noticed" in done.stdout
    assert "DOES NOT FIT: its text stands 0 times in src/holdfast/ids.py" in done.stdout
    assert "NOT TRIED: without the bug: pytest ended with 4" in done.stdout
    assert "0 of 3 planted bugs were caught" in done.stdout


def test_every_bug_fits_the_source() -> None:
    planted = read_plants(PLANTS)
    assert len(planted) >= 20
    for mutant in planted:
        plant(mutant, (PACKAGE / mutant.file).read_text())
        files = [name for name in mutant.tests if name.startswith("tests/")]
        assert files, mutant.name
        assert all((ROOT / name).exists() for name in files), mutant.name


@pytest.mark.parametrize(
    ("mutant", "source", "reason"),
    [
        (bug(), "three\n", "stands 0 times"),
        (bug(find="x"), "x = x\n", "stands 2 times"),
        (bug(find="x = 1", put="x = "), "x = 1\n", "no Python"),
        (bug(put="one"), "one = 1\n", "changes nothing"),
    ],
)
def test_a_bug_that_cannot_be_planted_says_why(mutant: Mutant, source: str, reason: str) -> None:
    with pytest.raises(Unfit, match=reason):
        plant(mutant, source)


FAILED = "FAILED tests/test_a.py::test_it[a - b] - assert 1 == 2\n1 failed in 0.1s\n"
LATE = "FAILED tests/test_a.py::test_it - Failed: Timeout (>30.0s) from pytest-timeout.\n1 failed in 30.1s\n"


@pytest.mark.parametrize(
    ("shows", "code", "output", "fate"),
    [
        ("failure", 1, FAILED, "caught"),
        ("failure", 0, "3 passed in 0.1s\n", "survived"),
        ("failure", 0, "3 skipped in 0.1s\n", "not tried"),
        ("failure", 1, LATE, "hung"),
        ("failure", None, "", "hung"),
        ("hang", 1, LATE, "caught"),
        ("hang", None, "", "caught"),
        ("failure", 1, "ERROR tests/test_a.py::test_it - no server\n1 error in 0.1s\n", "not tried"),
        ("failure", 2, "ERROR tests/test_a.py\n1 error in 0.1s\n", "not tried"),
        ("failure", 97, "", "not tried"),
    ],
)
def test_only_a_test_that_failed_counts_and_a_hang_only_where_one_is_expected(
    shows: str, code: int | None, output: str, fate: str
) -> None:
    assert judge(bug(shows=shows), Ran(code=code, output=output))[0] == fate


def test_a_bug_that_there_is_not_is_refused() -> None:
    done = mutants("--only", "no-such-bug")
    assert done.returncode == 2
    assert "there is no no-such-bug" in done.stderr
