"""The table of attacks says what the tests do."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

from tests.attacks.rows import ROWS, Later, Proven
from tests.conftest import ROOT

HERE = Path(__file__).parent
NUMBERS = (*range(44, 52), *range(70, 80), *range(96, 107), *range(124, 134))
TEST = re.compile(r"test_s(\d{3})_\w+")


@cache
def names_in(path: Path) -> frozenset[str]:
    """The names of the tests in a file, also those of its classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [it.name for it in ast.walk(tree) if isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef)]
    return frozenset(name for name in functions if name.startswith("test_"))


def named_after_rows() -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in HERE.glob("test_*.py"):
        for name in names_in(path):
            if match := TEST.fullmatch(name):
                found[match[1]].append(name)
    return found


def test_every_row_is_in_the_table() -> None:
    assert list(ROWS) == [f"{number:03}" for number in NUMBERS]
    assert all(row.attack for row in ROWS.values())
    assert all(row.why for row in ROWS.values() if isinstance(row, Later))


def test_every_row_is_proven_by_tests_or_says_why_there_is_nothing_to_test() -> None:
    named = named_after_rows()
    for number, row in ROWS.items():
        tests = named.pop(number, [])
        if isinstance(row, Proven):
            assert row.by or tests, f"S{number} names no test, and none is called test_s{number}_…"
        else:
            assert not tests, f"S{number} is said to come later, and is tested: say so in rows.py"
    assert not named, f"there is no row S{', S'.join(named)}"


def test_every_test_that_the_table_names_is_there() -> None:
    for number, row in ROWS.items():
        for place in row.by if isinstance(row, Proven) else ():
            file, _, name = place.partition("::")
            assert name in names_in(ROOT / "tests" / file), f"S{number}: there is no {place}"


def test_what_falls_short_is_said() -> None:
    for path in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and "xfail" in ast.unparse(
                ast.List(elts=node.decorator_list)
            ):
                match = TEST.fullmatch(node.name)
                row = ROWS[match[1]] if match else None
                assert isinstance(row, Proven), node.name
                assert row.short, f"{node.name} is expected to fail: say in rows.py what is missing"
