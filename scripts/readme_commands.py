"""Runs the commands that README.md shows, so that a README that lies fails the build.

The rule: every block fenced as ```sh is run, from the root of the checkout, with `.venv/bin` first on the path, until
its first failing command. A block fenced as ```sh no-run is only shown; it is for what a build must not do (an install,
a key, an editor). Other names for a shell block are refused, since they would slip past.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 600  # seconds for one block

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<marks>`{3,}|~{3,})(?P<info>[^`\n]*)\n(?P<body>.*?)^ *(?P=marks)[ \t]*$", re.M | re.S
)
_EVASIVE = {"bash", "shell", "console", "zsh", "shell-session"}


@dataclass(frozen=True, kw_only=True)
class Block:
    """Commands, and the line of the page they start on."""

    line: int
    script: str


def blocks(page: str) -> Iterator[Block]:
    """The runnable blocks of a Markdown page. Raises `ValueError` for a shell block under another name."""
    for fence in _FENCE.finditer(page):
        info = fence["info"].split()
        line = page.count("\n", 0, fence.start()) + 2
        if info and info[0].lower() in _EVASIVE:
            raise ValueError(f"line {line - 1}: write ```sh or ```sh no-run instead of ```{info[0]}")
        if info == ["sh"]:
            yield Block(line=line, script=fence["body"])


def without(script: str, skip: list[str]) -> str:
    """The script without the lines that are exactly one of `skip`, comments at their end aside."""
    return "".join(
        line for line in script.splitlines(keepends=True) if line.partition(" #")[0].strip() not in skip
    )


def run(block: Block, page: Path, skip: list[str]) -> bool:
    """Run one block, telling what runs and for how long; true when every command succeeded."""
    script = without(block.script, skip)
    place = f"{page.name}:{block.line}"
    if not script.strip():
        print(f"== {place}: nothing left to run", flush=True)
        return True
    print(f"== {place}\n{script}", end="", flush=True)
    path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    began = time.monotonic()
    try:
        code = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT,
            env=os.environ | {"PATH": path},
            stdin=subprocess.DEVNULL,
            timeout=LIMIT,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        print(f"== {place}: not done after {LIMIT} s", flush=True)
        return False
    print(f"== {place}: exit {code} after {time.monotonic() - began:.1f} s", flush=True)
    return code == 0


def main() -> int:
    """Run the page's blocks in order, up to the first that fails."""
    arguments = argparse.ArgumentParser(description="Run the commands a Markdown page shows.")
    arguments.add_argument("page", nargs="?", type=Path, default=ROOT / "README.md")
    arguments.add_argument("--skip", action="append", default=[], metavar="COMMAND", help="a line not to run")
    chosen = arguments.parse_args()
    try:
        found = list(blocks(chosen.page.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        sys.exit(f"{chosen.page}: {error}")
    if not found:
        sys.exit(f"{chosen.page}: no ```sh block, so nothing was proved")
    return 0 if all(run(block, chosen.page, chosen.skip) for block in found) else 1


if __name__ == "__main__":
    sys.exit(main())
