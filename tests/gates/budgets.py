"""How big things may be, and how big they are."""

import ast
from collections.abc import Container, Iterator
from typing import NamedTuple

from tests.gates.source import Module

FILE_LINES = 400
FUNCTION_LINES = 50  # less the docstring
PARAMETERS = 8  # less self and cls
OUR_IMPORTS = 12  # modules of this package that one file imports; see docs/decisions/0012
WIRING_IMPORTS = 20  # runtime.py alone knows every room
FRONT_PAGE = "src/holdfast/__init__.py"  # imports what it shows: its size is watched by docs/public_names.txt

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Size(NamedTuple):
    """One thing that was measured."""

    place: str
    """The file, or `file:function`."""
    what: str
    """`lines`, `parameters` or `imports`."""
    amount: int
    budget: int


def sizes(module: Module, modules: Container[str]) -> Iterator[Size]:
    """Everything in a file that has a budget. `modules` are the names of the whole package."""
    yield Size(module.path, "lines", len(module.text.splitlines()), FILE_LINES)
    if module.path != FRONT_PAGE:
        budget = WIRING_IMPORTS if module.name == "holdfast.runtime" else OUR_IMPORTS
        ours = {target for item in module.imports() if item.ours for target in item.reaches(modules)}
        yield Size(module.path, "imports", len(ours), budget)
    for node in ast.walk(module.tree):
        if isinstance(node, Function):
            place = f"{module.path}:{node.name}"
            yield Size(place, "lines", _lines(node), FUNCTION_LINES)
            yield Size(place, "parameters", _parameters(node), PARAMETERS)


def _lines(node: Function) -> int:
    body = node.body[0]
    docstring = _span(body) if ast.get_docstring(node, clean=False) is not None else 0
    return _span(node) - docstring


def _span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _parameters(node: Function) -> int:
    names = [p.arg for p in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))
