"""What a plain `pip install holdfast` brings along."""

from importlib.metadata import packages_distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.gates.architecture import CORE_IMPORTS

MOST = 16  # besides holdfast itself


def asked_for(parent: Requirement) -> list[Requirement]:
    """What a distribution, with the extras chosen, asks for directly on this machine."""
    extras = parent.extras or {""}
    wanted = [Requirement(line) for line in requires(parent.name) or ()]
    return [r for r in wanted if not r.marker or any(r.marker.evaluate({"extra": extra}) for extra in extras)]


def brought_by(parent: Requirement) -> set[str]:
    """Everything a distribution brings, however deep."""
    found: set[str] = set()
    new = asked_for(parent)
    while new:
        child = new.pop()
        if str(child) not in found:
            found.add(str(child))
            new += asked_for(child)
    return {canonicalize_name(Requirement(line).name) for line in found}


def test_a_plain_install_brings_few_distributions() -> None:
    found = brought_by(Requirement("holdfast"))
    assert {"msgspec", "httpcore2", "cffi"} <= found
    assert len(found) <= MOST, f"{len(found)} distributions: {', '.join(sorted(found))}"


def test_the_import_rules_know_every_core_dependency() -> None:
    core = {canonicalize_name(r.name) for r in asked_for(Requirement("holdfast"))}
    names = {
        name
        for name, distributions in packages_distributions().items()
        if not name.startswith("_") and not core.isdisjoint(map(canonicalize_name, distributions))
    }
    assert names == CORE_IMPORTS
