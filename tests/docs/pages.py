"""The documentation as the tests see it: its pages, their code, and what that code is said to print."""

import ast
import asyncio
import inspect
import io
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
"""Every page but the decisions, which hold no code to run and are listed in a README of their own."""

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<marks>`{3,})(?P<info>[^`\n]*)\n(?P<body>.*?)^ *(?P=marks)[ \t]*$", re.M | re.S
)
_ANYTHING = "…"


class PageError(Exception):
    """A page breaks the rules of docs/README.md, or says what is not so."""


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """A block of Python, the line of the page its code starts on, and what stands below it as its output."""

    line: int
    code: str
    shown: str | None


def snippets(text: str) -> Iterator[Snippet]:
    """The blocks of a page that run, in order. Raises `PageError` for a block that would slip past."""
    for fence in _FENCE.finditer(text):
        line = text.count("\n", 0, fence.start()) + 2
        language, *options = fence["info"].split() or [""]
        if language.lower() in ("py", "python3", "pycon", "py3") or (
            language == "python" and fence["indent"]
        ):
            raise PageError(f"line {line - 1}: write ```python, at the beginning of the line")
        if language != "python":
            continue
        if options == ["no-run"]:
            if not fence["body"].startswith("# Not run: "):
                raise PageError(f'line {line}: a no-run block begins with "# Not run: " and the reason')
        elif options:
            raise PageError(f"line {line - 1}: {options} is not an option; only no-run is")
        else:
            yield Snippet(line=line, code=fence["body"], shown=_shown_below(text, fence.end()))


def _shown_below(text: str, end: int) -> str | None:
    """The `text` block that begins right after `end`, empty lines aside."""
    below = _FENCE.match(text, end + len(text[end:]) - len(text[end:].lstrip()))
    return below["body"] if below and below["info"].strip() == "text" else None


def prints(shown: str, printed: str) -> bool:
    """Whether this is what was printed. `…` stands for anything in a line, or on a line of its own for any lines."""
    lines = [
        r"(?:[^\n]*\n)*" if line.strip() == _ANYTHING else _pattern(line) + r"\n"
        for line in shown.rstrip().splitlines()
    ]
    tidy = "".join(f"{line.rstrip()}\n" for line in printed.rstrip().splitlines())
    return re.fullmatch("".join(lines), tidy) is not None


def _pattern(line: str) -> str:
    return r"[^\n]*".join(re.escape(part) for part in line.rstrip().split(_ANYTHING))


def run_page(path: Path) -> int:
    """Run a page as the one program it is, in the present directory; how many blocks ran.

    Raises what a block raises, or `PageError` where a block prints something else than the page shows.
    """
    module = ModuleType("__main__")
    before, sys.modules["__main__"] = sys.modules["__main__"], module
    count = 0
    try:
        with asyncio.Runner() as runner:
            for snippet in snippets(path.read_text(encoding="utf-8")):
                printed = _run(snippet, path, module, runner)
                _compare(snippet, path, printed)
                count += 1
    finally:
        sys.modules["__main__"] = before
    return count


def _run(snippet: Snippet, path: Path, module: ModuleType, runner: asyncio.Runner) -> str:
    tree = ast.increment_lineno(ast.parse(snippet.code, str(path)), snippet.line - 1)
    code = compile(tree, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    printed = io.StringIO()
    with redirect_stdout(printed):
        result = eval(code, vars(module))
        if inspect.iscoroutine(result):
            runner.run(result)
    return printed.getvalue()


def _compare(snippet: Snippet, path: Path, printed: str) -> None:
    place = f"{path.name}:{snippet.line}"
    if snippet.shown is None and printed.strip():
        raise PageError(f"{place} prints this; show it in a ```text block right below:\n{printed}")
    if snippet.shown is not None and not prints(snippet.shown, printed):
        raise PageError(f"{place} is said to print\n{snippet.shown}\nand prints\n{printed}")
