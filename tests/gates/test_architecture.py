"""The import levels: kept by the package, and kept by a checker that does catch each violation."""

from pathlib import Path
from textwrap import dedent

import pytest

from tests.gates.architecture import problems
from tests.gates.source import read


def check(tmp_path: Path, files: dict[str, str]) -> list[str]:
    """The problems of a small package made of `files`, which are named below `holdfast/`."""
    for name, text in files.items():
        path = tmp_path / "src" / "holdfast" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return problems(read(tmp_path / "src"))


def test_the_package_keeps_the_import_levels() -> None:
    found = problems(read())
    assert not found, "\n" + "\n".join(found)


ALLOWED = {
    "down a level": ("tool.py", "from holdfast.errors import ToolError"),
    "leftwards within a level": ("events.py", "from holdfast.messages import Message"),
    "inside one room": ("turn/loop.py", "from holdfast.turn.decide import decide"),
    "inside one room, relatively": ("turn/loop.py", "from .decide import decide"),
    "any room from the wiring": ("runtime.py", "from holdfast.stores.memory import MemoryStore"),
    "leftwards in the wiring": ("testing/kit.py", "from holdfast.runtime import Runtime"),
    "the wiring from the front page": ("__init__.py", "from holdfast.runtime import Runtime"),
    "the public names from an app": ("cli/main.py", "from holdfast import Runtime, events"),
    "a public module from an app": ("cli/main.py", "from holdfast.errors import StoreError"),
    "an app's own files": ("cli/main.py", "from holdfast.cli.show import timeline"),
    "a module, from the package": ("tool.py", "from holdfast import errors"),
    "an optional dependency late": ("stores/postgres.py", "def connect(): import asyncpg"),
    "an optional dependency late in an app": ("cli/main.py", "def show(): from rich.table import Table"),
    "loading by name in the registry": ("registry.py", "def f(name): return importlib.import_module(name)"),
    "loading by name on the front page": ("__init__.py", "def __getattr__(name): return import_module(name)"),
    "a core dependency late, with a reason": ("schema.py", "def f(): import jsonschema_rs"),
    "a file of the package's own data": ("stores/sqlite.py", "from importlib import resources"),
}

FORBIDDEN = {
    "up a level": ("errors.py", "from holdfast.tool import Tool", "up from level 0 to level 1"),
    "up, relatively": ("turn/loop.py", "from ..runtime import Runtime", "up from level 3 to level 4"),
    "up, as a module": ("ids.py", "from holdfast import store", "up from level 0 to level 1"),
    "up, for types only": (
        "ids.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING: import holdfast.journal",
        "up from level 0 to level 2",
    ),
    "rightwards within a level": ("ids.py", "from holdfast.events import Event", "imports go leftwards"),
    "from room to room": ("turn/act.py", "import holdfast.stores.memory", "into the room stores/"),
    "the front page from inside": ("turn/act.py", "from holdfast import Runtime", "stands above"),
    "an app from the front page": ("__init__.py", "import holdfast.cli", "up from level 4 to level 5"),
    "behind the public names": ("cli/main.py", "import holdfast.stores.memory", "as every user does"),
    "a private name from an app": ("cli/main.py", "from holdfast.errors import _tree", "not a public name"),
    "an unlisted name from an app": ("web/app.py", "from holdfast import Secret", "not a public name"),
    "an app from an app": ("web/app.py", "from holdfast.cli import main", "know nothing of each other"),
    "our own module late": ("tool.py", "def f(): from holdfast.errors import ToolError", "top of the file"),
    "the standard library late": ("tool.py", "class A:\n    import json", "every install has it"),
    "a core dependency late": ("tool.py", "async def f():\n    import msgspec", "every install has it"),
    "an optional dependency late, not alone": ("stores/a.py", "def f(): import rich", "its own file"),
    "loading by name": ("tool.py", "def f(name): import_module(name)", "loads a module by name"),
    "a detour around the levels": ("ids.py", "importlib.import_module('holdfast.store')", "up from level 0"),
    "a detour around the top": ("tool.py", "f = lambda: import_module('msgspec')", "every install has it"),
    "a module that has no level": ("tool.py", "from holdfast.utils import x", "a level"),
    "a file that has no level": ("utils.py", "", "a level"),
}

AROUND = {
    "__init__.py": "__all__ = ['Runtime']\n",
    "errors.py": "",
    "events.py": "",
    "store.py": "",
    "turn/decide.py": "",
    "stores/memory.py": "",
    "cli/__init__.py": "import rich",
}


@pytest.mark.parametrize("case", ALLOWED)
def test_an_import_that_keeps_the_rules_passes(case: str, tmp_path: Path) -> None:
    name, text = ALLOWED[case]
    assert check(tmp_path, AROUND | {name: text}) == []


@pytest.mark.parametrize("case", FORBIDDEN)
def test_an_import_that_breaks_a_rule_is_named_with_its_place(case: str, tmp_path: Path) -> None:
    name, text, complaint = FORBIDDEN[case]
    found = check(tmp_path, AROUND | {name: text})
    assert len(found) == 1
    assert found[0].startswith(f"src/holdfast/{name}:")
    assert complaint in found[0]
