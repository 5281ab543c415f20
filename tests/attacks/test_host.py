"""What may be tried on the program around an agent: rows 126 to 128 of the checklist."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import Agent, Config, Deny, Hook, HookEvent, Runtime, tool
from holdfast.drivers.sim import Sim, call, say
from tests.conftest import ROOT

SOURCES = sorted((ROOT / "src").rglob("*.py"))
TEMPLATE = "{0.__class__.__mro__} {self} %s %(x)s ${HOME} $(id) `id` {{7*7}} <%= 7*7 %>"


@pytest.mark.parametrize("command", [("sessions",), ("recover",), ("cancel", "last"), ("run", "Hello")])
def test_s126_the_command_imports_nothing_from_the_directory_it_is_called_in(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    for name in ("apsw", "httpx2", "asyncpg", "msgspec", "re2", "json", "sitecustomize", "holdfast"):
        (tmp_path / f"{name}.py").write_text(f"open('owned', 'a').write('{name} ')\n")
    code = (
        "import sys; sys.path = [it for it in sys.path if it not in ('', '.')]\n"
        "from holdfast.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "import os; assert os.getcwd() not in sys.path, sys.path\n"
        "import httpx2, asyncpg\n"
    )
    model = ("--model", "sim/echo") if command[0] == "run" else ()
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *command, *model, "--db", str(tmp_path / "log.db")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "owned").exists()


async def test_s127_text_that_looks_like_a_template_is_never_filled_in() -> None:
    @tool
    async def note(text: str) -> str:
        """Note."""
        return text

    @tool
    async def fail(text: str) -> str:
        """Fail."""
        raise ValueError(text)

    async def guard(event: HookEvent) -> Deny | None:
        return Deny(TEMPLATE) if event.tool == "guarded" else None

    @tool
    async def guarded() -> str:
        """Do nothing."""
        return ""

    wanted = [call("note", text=TEMPLATE), call("fail", text=TEMPLATE), call("guarded")]
    model = Sim.storyboard(*wanted, say(TEMPLATE))
    config = Config(hooks=(Hook(id="guard", point="before_tool", run=guard),))
    async with Runtime() as runtime:
        agent = Agent(TEMPLATE, model=model, tools=[note, fail, guarded], config=config)
        session = await runtime.session(agent, title=TEMPLATE, metadata={TEMPLATE: TEMPLATE})
        result = await session.run(TEMPLATE)
        texts = [message.text for message in await session.messages()]
    assert result.text == TEMPLATE
    assert all(TEMPLATE in text for text in texts if text), texts
    assert len([text for text in texts if TEMPLATE in text]) == 5
    assert TEMPLATE in model.requests[0].instructions


def calls_of(path: Path) -> Iterator[tuple[str, ast.Call, ast.AST]]:
    """Each call in a file: what is called, the call, and the function around it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for around in ast.walk(tree):
        if isinstance(around, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
            for node in ast.walk(around):
                if isinstance(node, ast.Call):
                    yield ast.unparse(node.func), node, around


def is_fixed(value: ast.expr, around: ast.AST) -> bool:
    """Whether this can only be text that stands in the source."""
    match value:
        case ast.Constant():
            return True
        case ast.IfExp(body=one, orelse=other):
            return is_fixed(one, around) and is_fixed(other, around)
        case ast.Name(id=name):
            given = [
                it.value for it in ast.walk(around) if isinstance(it, ast.Assign) and names(it) == [name]
            ]
            return name.isupper() or (bool(given) and all(is_fixed(it, around) for it in given))
    return False


def names(assignment: ast.Assign) -> list[str]:
    return [ast.unparse(target) for target in assignment.targets]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_s127_nothing_runs_text_as_code_through_a_shell_or_as_a_template(path: Path) -> None:
    for name, node, around in calls_of(path):
        place = f"line {node.lineno}: {name}"
        assert name not in ("eval", "exec", "compile", "os.system", "os.popen"), place
        assert not name.startswith(("pickle.", "marshal.", "shelve.")), place
        assert "create_subprocess_shell" not in name, place
        if name.startswith(("subprocess.", "asyncio.create_subprocess")):
            assert all(it.arg != "shell" for it in node.keywords), place
        if name.endswith((".format", ".format_map")) and not name.startswith("msgspec."):
            assert isinstance(node.func, ast.Attribute)
            fixed = not isinstance(around, ast.Module) and is_fixed(node.func.value, around)
            assert fixed or isinstance(around, ast.Module), (
                f"{place} fills in a template that may be anybody's"
            )


def test_s128_the_pages_say_that_tools_are_not_in_a_sandbox() -> None:
    assert "There is no sandbox" in (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
