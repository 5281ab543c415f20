"""Reads a source tree for the gates: its modules, and what each imports."""

import ast
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "holdfast"
SRC = Path(__file__).resolve().parents[2] / "src"
BY_NAME = "a module by name"
"""Stands for the module of an import that only the running program knows."""

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True, kw_only=True)
class Import:
    """One imported module. `names` is what was taken from it; `import module` takes nothing by name."""

    module: str
    names: tuple[str, ...]
    line: int
    inline: bool

    @property
    def ours(self) -> bool:
        return self.module.partition(".")[0] == PACKAGE

    def reaches(self, modules: Container[str]) -> list[str]:
        """The modules that are needed; `from holdfast import clock` needs `holdfast.clock` only."""
        names = [f"{self.module}.{name}" for name in self.names]
        reached = [name for name in names if name in modules]
        return reached if names and len(reached) == len(names) else [*reached, self.module]


@dataclass(frozen=True, kw_only=True)
class Module:
    """One file: its dotted name, its place for messages, its text and syntax tree."""

    name: str
    path: str
    text: str
    tree: ast.Module
    is_package: bool

    def imports(self) -> Iterator[Import]:
        """Every import of the file, `import_module("x")` included. Inline means inside a function or a class."""
        return self._walk(self.tree, inline=False)

    def _walk(self, node: ast.AST, *, inline: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(module=alias.name, names=(), line=child.lineno, inline=inline)
            elif isinstance(child, ast.ImportFrom):
                names = tuple(alias.name for alias in child.names)
                yield Import(module=self._origin(child), names=names, line=child.lineno, inline=inline)
            else:
                if isinstance(child, ast.Call) and ast.unparse(child.func).endswith(
                    ("import_module", "__import__")
                ):
                    yield Import(module=_literal(child), names=(), line=child.lineno, inline=inline)
                yield from self._walk(child, inline=inline or isinstance(child, SCOPES))

    def _origin(self, statement: ast.ImportFrom) -> str:
        if not statement.level:
            return statement.module or ""
        parts = self.name.split(".")
        here = parts if self.is_package else parts[:-1]
        base = here[: len(here) - statement.level + 1]
        return ".".join([*base, statement.module] if statement.module else base)


def _literal(call: ast.Call) -> str:
    match call.args:
        case [ast.Constant(value=str(module)), *_]:
            return module
    return BY_NAME


def read(src: Path = SRC) -> dict[str, Module]:
    """Every Python file under `src`, by dotted name."""
    modules = [_module(path, src) for path in sorted(src.rglob("*.py"))]
    return {module.name: module for module in modules}


def _module(path: Path, src: Path) -> Module:
    parts = list(path.relative_to(src).with_suffix("").parts)
    is_package = parts[-1] == "__init__"
    text = path.read_text(encoding="utf-8")
    return Module(
        name=".".join(parts[:-1] if is_package else parts),
        path=path.relative_to(src.parent).as_posix(),
        text=text,
        tree=ast.parse(text, filename=str(path)),
        is_package=is_package,
    )
