"""Every program in examples/ prints what its first lines say it prints."""

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.pages import prints

DEMO = "demo.py"
"""Kills itself on purpose, so it has a test of its own."""
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.name != DEMO)
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY")


def promised(path: Path) -> str:
    """What the example's docstring shows below "Prints:"."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    _, mark, shown = doc.partition("\nPrints:\n\n")
    assert mark, f'{path.name}: end its docstring with "Prints:" and what it prints, indented'
    return textwrap.dedent(shown)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_prints_what_it_promises_without_a_key(example: Path, tmp_path: Path) -> None:
    without_keys = {name: value for name, value in os.environ.items() if name not in KEYS}
    run = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        cwd=tmp_path,
        env=without_keys,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert prints(promised(example), run.stdout), f"{example.name} prints\n{run.stdout}"


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5
