"""The house rules for imports: the levels as data, and a function that reads a source tree against them.

Imports go down a level, or leftwards within a level that allows it. Rooms know nothing of each other. The apps
see only what every user sees. Imports sit at the top of the file; only a dependency that may be absent can be
imported late, by the one file that is about it. An `import_module("x")` is an import of x like any other.
"""

import ast
import sys
from collections.abc import Iterator

from tests.gates.source import BY_NAME, PACKAGE, Import, Module

LEVELS = (
    ("errors", "ids", "clock", "messages", "media", "facts", "events"),
    (
        "services",
        "budget",
        "network",
        "matching",
        "driver",
        "catalogue",
        "store",
        "schema",
        "shape",
        "partial",
        "stragglers",
        "asking",
        "tool",
        "hook",
        "commands",
        "approver",
        "sink",
        "policy",
        "rules",
        "rulebook",
        "guard",
        "capability",
        "config",
    ),
    (
        "outcome",
        "state",
        "folds",
        "fold",
        "history",
        "charter",
        "manifest",
        "resolve",
        "proof",
        "follow",
        "privacy",
        "writer",
        "roster",
        "journal",
        "watching",
        "archive",
        "registry",
    ),
    ("turn", "stores", "drivers", "capabilities", "workspace", "mcp", "engines"),
    (
        "compat",  # reads contracts and the log only; the wiring does not know it, and it stands before all of it
        "accounts",
        "standing",
        "agent",
        "manifests",
        "drift",
        "standards",
        "model",
        "control",
        "handle",
        "mail",
        "runner",
        "session",
        "upkeep",
        "runtime",
        "sync",
        "testing",
        "",
    ),  # "" is holdfast/__init__.py, which shows what the others define
    ("cli", "web"),
)
ROOMS = LEVELS[3]
APPS = LEVELS[5]

CORE_IMPORTS = frozenset(
    {"apsw", "cronsim", "cryptography", "httpx2", "jsonschema_rs", "msgspec", "re2", "uuid_utils"}
)
"""Import names of the third-party packages every install has."""

LATE = {
    "jsonschema_rs": "8 ms that only a call with wrong arguments should pay",
    "re2": "6 ms that only a rule with an expression should pay",
}
"""Packages every install has that may be imported late all the same, and why."""

LOADERS = (PACKAGE, f"{PACKAGE}.registry")
"""The modules that may load others by name; elsewhere that would be a way around every rule here."""

_PLACE = {unit: (level, index) for level, units in enumerate(LEVELS) for index, unit in enumerate(units)}


def problems(modules: dict[str, Module]) -> list[str]:
    """Everything in `modules` that breaks a rule, one readable line each."""
    homes = _homes(modules)
    found = []
    for module in modules.values():
        if (unit := _unit(module.name)) not in _PLACE:
            found.append(f"{module.path}: give {unit!r} a level in tests/gates/architecture.py")
            continue
        for item in module.imports():
            rules = _our_import(module, item, modules) if item.ours else _foreign_import(module, item, homes)
            found += [f"{module.path}:{item.line}: {complaint}" for complaint in rules]
    return found


def _our_import(module: Module, item: Import, modules: dict[str, Module]) -> Iterator[str]:
    if item.inline:
        yield f"imports {item.module} late; move it to the top of the file"
    unit = _unit(module.name)
    for target in item.reaches(modules):
        if _unit(target) == unit:
            continue
        if unit in APPS:
            yield from _from_app(target, item, modules)
        else:
            yield from _across(unit, target)


def _across(unit: str, target: str) -> Iterator[str]:
    """The rule of the levels, for an import that leaves its own unit."""
    wanted = _unit(target)
    if wanted not in _PLACE:
        yield f"imports {target}; give {wanted!r} a level in tests/gates/architecture.py"
        return
    (level, index), (wanted_level, wanted_index) = _PLACE[unit], _PLACE[wanted]
    if not wanted:
        yield f"imports from {PACKAGE} itself, which stands above; import from where the name is defined"
    elif wanted_level > level:
        yield f"imports {target}, up from level {level} to level {wanted_level}; imports go down"
    elif unit in ROOMS and wanted in ROOMS:
        yield f"imports {target}, from the room {unit}/ into the room {wanted}/; share it below or pass it in"
    elif wanted_level == level and wanted_index > index:
        yield f"imports {target}, to the right of {unit} in level {level}; imports go leftwards"


def _from_app(target: str, item: Import, modules: dict[str, Module]) -> Iterator[str]:
    """The apps' rule: the public names, as every user has them."""
    if _unit(target) in APPS:
        yield f"imports {target}; the apps know nothing of each other"
    elif target.count(".") > (1 if _unit(target) in ROOMS else 2):
        yield f"imports {target}; an app uses {PACKAGE} and {PACKAGE}.<module>, as every user does"
    elif item.module == target:
        public = _all(modules.get(target))
        for name in item.names:
            listed = not public or name in public or f"{target}.{name}" in modules
            if name.startswith("_") or not listed:
                yield f"imports {name} from {target}, which is not a public name"


def _foreign_import(module: Module, item: Import, homes: dict[str, set[str]]) -> Iterator[str]:
    name = item.module.partition(".")[0]
    if item.module == BY_NAME:
        if module.name not in LOADERS:
            yield f"loads {BY_NAME}, which only {' and '.join(LOADERS)} may"
    elif not item.inline:
        return
    elif name in sys.stdlib_module_names or name in CORE_IMPORTS.difference(LATE):
        yield f"imports {name} late, though every install has it; move it to the top of the file"
    elif name not in LATE and len(homes[name]) > 1:
        yield f"imports {name} late, but not in its own file: see {', '.join(sorted(homes[name]))}"


def _homes(modules: dict[str, Module]) -> dict[str, set[str]]:
    """Where each foreign package is imported. An app counts as one place, any other file as itself."""
    homes: dict[str, set[str]] = {}
    for module in modules.values():
        unit = _unit(module.name)
        for item in module.imports():
            homes.setdefault(item.module.partition(".")[0], set()).add(unit if unit in APPS else module.path)
    return homes


def _all(module: Module | None) -> list[str]:
    """What the module's `__all__` lists; nothing when it has none."""
    for node in module.tree.body if module else []:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def _unit(name: str) -> str:
    """The file or room that a dotted name belongs to; empty for the package itself."""
    return name.partition(".")[2].partition(".")[0]
