"""The public names are one list. Adding to it or taking from it is a decision, and shows in a diff."""

import ast
from types import ModuleType

import holdfast
from tests.conftest import ROOT
from tests.gates.source import read

LIST = ROOT / "docs" / "public_names.txt"


def test_the_public_names_are_exactly_the_listed_ones() -> None:
    listed = LIST.read_text(encoding="utf-8").split()
    public = list(holdfast.__all__)
    assert listed == sorted(set(listed)), f"sort {LIST.name} and take out what is there twice"
    assert set(public) - set(listed) == set(), f"public but not listed in docs/{LIST.name}"
    assert set(listed) - set(public) == set(), f"listed in docs/{LIST.name} but not public"
    assert len(public) == len(set(public))


def test_every_public_name_exists_and_says_what_it_promises() -> None:
    values = documented_values()
    silent = [name for name in holdfast.__all__ if name not in values and not own_docstring(name)]
    assert not silent, f"public without a docstring: {', '.join(silent)}"


def own_docstring(name: str) -> str | None:
    """The docstring written for a class, function or module: not an inherited or generated one."""
    thing = getattr(holdfast, name)
    if isinstance(thing, type):
        written: str | None = vars(thing).get("__doc__")
        return None if written and written.startswith(f"{name}(") else written
    return thing.__doc__ if callable(thing) or isinstance(thing, ModuleType) else None


def documented_values() -> set[str]:
    """Names of module-level values and type aliases that are followed by a string saying what they are."""
    return {
        ast.unparse(target)
        for module in read().values()
        for statement, after in zip(module.tree.body, module.tree.body[1:], strict=False)
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
        for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
    }
