"""The registry: names become drivers and capabilities, each when it is first named."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast import registry
from holdfast.capability import Capability, CapabilityRef
from holdfast.drivers.sim import Sim
from holdfast.errors import ConfigError, DriverError, UnknownCapability, UnknownModel
from holdfast.registry import CAPABILITIES, DRIVERS, Registry
from holdfast.stores.sqlite import SQLiteStore

THING = Capability(name="thing", instructions="A thing.")


class Closing(Sim):
    """A driver that notes in `closed` when it is closed, and can fail to be."""

    def __init__(self, name: str, closed: list[str], *, fails: bool = False) -> None:
        super().__init__(lambda request: "hi")
        self._note = lambda: closed.append(name)
        self._fails = fails

    async def close(self) -> None:
        self._note()
        if self._fails:
            raise DriverError("connection", "it does not close")


def listed(*names: str) -> str:
    """How names are listed, as a pattern for the end of a message."""
    return re.escape(", ".join(sorted(names))) + "$"


def test_a_model_is_a_vendor_and_the_providers_own_name() -> None:
    sim = Sim.always("hi")
    for model, name in (("sim/m", "m"), ("sim/org/model:7b", "org/model:7b"), ("sim/ ", " ")):
        assert Registry(drivers={"sim": sim}).driver(model) == (sim, name)


@pytest.mark.parametrize("model", ["gpt-5", "", "sim/", "sim"])
def test_a_model_without_a_vendor_or_name_is_refused_with_the_form_it_should_have(model: str) -> None:
    expected = f"is not of the form vendor/name; vendors here are {listed(*DRIVERS, 'sim')}"
    with pytest.raises(UnknownModel, match=expected):
        Registry(drivers={"sim": Sim.always("hi")}).driver(model)


def test_an_unknown_vendor_is_answered_with_the_nearest_or_with_all() -> None:
    names = Registry(drivers={"acme-llm": Sim.always("hi")})
    with pytest.raises(UnknownModel) as caught:
        names.driver("acme_llm/x")
    assert str(caught.value) == (
        "no driver for vendor 'acme_llm' of model 'acme_llm/x'; did you mean 'acme-llm'?"
    )
    with pytest.raises(UnknownModel, match=f"model 'zzz/x'; known here: {listed(*DRIVERS, 'acme-llm')}"):
        names.driver("zzz/x")


def test_an_unknown_capability_is_answered_with_the_nearest_or_with_all() -> None:
    names = Registry(capabilities={"thing": THING})
    with pytest.raises(UnknownCapability, match=r"no capability is called 'thin'; did you mean 'thing'\?"):
        names.capability(CapabilityRef(name="thin"))
    with pytest.raises(
        UnknownCapability, match=f"called 'zzz'; known here: {listed(*CAPABILITIES, 'thing')}"
    ):
        names.capability(CapabilityRef(name="zzz"))


def test_what_can_be_named_is_listed() -> None:
    names = Registry(drivers={"sim": Sim.always("hi")}, capabilities={"thing": THING})
    assert names.vendors == (*DRIVERS, "sim")
    assert names.capability_names == (*CAPABILITIES, "thing")


def test_a_driver_is_made_once_when_it_is_first_named() -> None:
    made: list[Sim] = []

    def make() -> Sim:
        made.append(Sim.always("hi"))
        return made[-1]

    names = Registry(drivers={"sim": make})
    assert not made
    assert names.driver("sim/a")[0] is names.driver("sim/b")[0]
    assert len(made) == 1
    assert (
        Registry(drivers={"sim": make}).driver("sim/a")[0] is not made[0]
    )  # nothing is shared between registries


def test_a_driver_may_be_given_as_an_object_a_class_a_function_or_a_dotted_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_llm.py").write_text(
        "from holdfast.drivers.sim import Sim\n"
        "class Acme(Sim):\n"
        "    def __init__(self): super().__init__(lambda request: 'hi')\n"
        "ready = Acme()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    names = Registry(
        drivers={
            "object": Sim.always("hi"),
            "function": lambda: Sim.always("hi"),
            "dotted": "acme_llm:Acme",
            "dotted-object": "acme_llm:ready",
        }
    )
    assert "acme_llm" not in sys.modules
    assert all(
        names.driver(f"{vendor}/m")[0].wire == "sim" for vendor in names.vendors if vendor not in DRIVERS
    )
    assert type(names.driver("dotted/m")[0]).__name__ == "Acme"
    assert names.driver("dotted-object/m")[0] is sys.modules["acme_llm"].ready
    del sys.modules["acme_llm"]


@pytest.mark.parametrize(
    ("dotted", "reason"),
    [
        ("acme_no_such:Thing", "acme_no_such:Thing needs the package 'acme_no_such', which is not installed"),
        ("holdfast.errors:Nothing", "module holdfast.errors has no 'Nothing'"),
        ("holdfast.errors", "'holdfast.errors' does not name anything; write package.module:Name"),
        (":Thing", "does not name anything"),
        ("", "does not name anything"),
    ],
)
def test_a_dotted_name_that_leads_nowhere_is_an_error_of_the_configuration(dotted: str, reason: str) -> None:
    names = Registry(drivers={"acme": dotted}, capabilities={"acme": dotted})
    with pytest.raises(ConfigError, match=reason):
        names.driver("acme/m")
    with pytest.raises(ConfigError, match=reason):
        names.capability(CapabilityRef(name="acme"))


def test_a_missing_package_of_an_extra_is_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_extra.py").write_text("import acme_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ConfigError, match="acme_extra:Driver needs the package 'acme_not_installed', which is not"
    ):
        Registry(drivers={"acme": "acme_extra:Driver"}).driver("acme/m")


def test_a_capability_is_made_from_its_configuration_each_time_it_is_asked_for() -> None:
    def make(config: Any) -> Capability:
        return Capability(name="made", instructions=json.dumps(dict(config)))

    names = Registry(capabilities={"made": make})
    assert names.capability(CapabilityRef(name="made", config={"x": 1})).instructions == '{"x": 1}'
    assert names.capability(CapabilityRef(name="made")).instructions == "{}"


def test_a_factory_that_makes_no_capability_is_an_error_of_the_configuration() -> None:
    def forgetful(config: object) -> Any:
        del config

    with pytest.raises(ConfigError, match="the factory of capability 'kit' made None, not a Capability"):
        Registry(capabilities={"kit": forgetful}).capability(CapabilityRef(name="kit"))


def test_a_capability_given_as_an_object_takes_no_configuration() -> None:
    names = Registry(capabilities={"thing": THING})
    assert names.capability(CapabilityRef(name="thing")) is THING
    with pytest.raises(ConfigError, match=r"capability 'thing' takes no configuration; it was given \['x'\]"):
        names.capability(CapabilityRef(name="thing", config={"x": 1}))


def test_ones_own_entry_takes_the_place_of_a_built_in_one() -> None:
    sim = Sim.always("hi")
    names = Registry(drivers={"openai-chat": sim}, capabilities={"files": THING})
    assert names.driver("openai-chat/m")[0] is sim
    assert names.capability(CapabilityRef(name="files")) is THING
    assert Registry().vendors == tuple(DRIVERS)  # and of no other registry


@pytest.mark.parametrize("dotted", [*DRIVERS.values(), *CAPABILITIES.values(), registry.SQLITE])
def test_every_built_in_name_leads_somewhere(dotted: str) -> None:
    assert callable(registry.load(dotted))


def test_a_path_is_served_by_sqlite(tmp_path: Path) -> None:
    store = Registry().store(tmp_path / "desk.db")
    assert isinstance(store, SQLiteStore)
    assert not (tmp_path / "desk.db").exists()  # only open() makes it


async def test_closing_closes_the_drivers_that_were_made_and_no_others() -> None:
    closed: list[str] = []
    names = Registry(drivers={name: Closing(name, closed) for name in ("a", "b", "c")})
    names.driver("a/m")
    names.driver("c/m")
    await names.close()
    assert sorted(closed) == ["a", "c"]
    await names.close()
    assert len(closed) == 2


async def test_a_driver_that_fails_to_close_does_not_keep_the_others_open() -> None:
    closed: list[str] = []
    names = Registry(drivers={name: Closing(name, closed, fails=name == "b") for name in ("a", "b", "c")})
    for vendor in "abc":
        names.driver(f"{vendor}/m")
    with pytest.raises(DriverError, match="it does not close"):
        await names.close()
    assert sorted(closed) == ["a", "b", "c"]


def test_nothing_is_imported_before_it_is_named() -> None:
    code = (
        "import json, sys; from holdfast.registry import Registry\n"
        "names = Registry(); names.vendors; names.capability_names\n"
        "try: names.driver('zzz/x')\nexcept Exception: pass\n"
        "before = [it for it in sys.modules if it.startswith(('holdfast.drivers.', 'holdfast.capabilities.'))]\n"
        "names.driver('openai-chat/m')\n"
        "print(json.dumps([before, 'holdfast.drivers.openai_chat' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], True]
