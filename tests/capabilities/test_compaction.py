"""The `compaction` capability: what it takes, and what a manifest says of it."""

from typing import Any

import pytest

from holdfast import Agent, Registry, Runtime
from holdfast.capabilities.compaction import compaction
from holdfast.capability import CapabilityRef, Compaction
from holdfast.catalogue import ModelInfo
from holdfast.drivers.sim import Sim
from holdfast.errors import ConfigError, UnknownModel
from holdfast.manifest import Manifest


async def manifest_of(config: dict[str, Any], window: int | None = None, model: str = "sim/m") -> Manifest:
    models = {"sim/m": ModelInfo(name="m", context_window=window)}
    registry = Registry(drivers={"sim": Sim.always("ok")}, models=models)
    async with Runtime(registry=registry) as runtime:
        asked = CapabilityRef(name="compaction", config=config)
        session = await runtime.session(Agent(model=model, capabilities=[asked]))
        return (await session.inspect("x")).manifest


def test_it_takes_a_share_a_number_or_neither() -> None:
    assert compaction({}).compaction == Compaction(threshold=0.85, keep=20_000)
    assert compaction({"threshold": 50_000, "keep": 0}).compaction == Compaction(threshold=50_000, keep=0)
    assert compaction({"threshold": None}).compaction == Compaction(threshold=None)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"threshold": 1}, "threshold is 1;"),
        ({"threshold": -5}, "threshold is -5"),
        ({"threshold": "much"}, "threshold"),
        ({"keep": -1}, "keep is -1"),
        ({"keeps": 5}, "keeps"),
        ({"model": 5}, "model"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_write(config: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        compaction(config)


@pytest.mark.parametrize(
    ("config", "window", "above"),
    [
        ({}, 200_000, 170_000),
        ({}, None, None),
        ({"threshold": 0.5}, 8_000, 4_000),
        ({"threshold": 5_000}, None, 5_000),
        ({"threshold": None}, 200_000, None),
    ],
)
async def test_a_share_is_of_the_models_window(
    config: dict[str, Any], window: int | None, above: int | None
) -> None:
    assert (await manifest_of(config, window)).compact_above(0) == above


async def test_the_window_of_a_model_is_in_the_catalogue() -> None:
    registry = Registry(drivers={"anthropic": Sim.always("ok")})
    async with Runtime(registry=registry) as runtime:
        agent = Agent(model="anthropic/claude-sonnet-4-5", capabilities=["compaction"])
        above = (await (await runtime.session(agent)).inspect("x")).manifest.compact_above(0)
    assert above is not None
    assert above >= 170_000


async def test_what_changes_when_a_summary_is_made_changes_the_digest() -> None:
    configs: list[tuple[dict[str, Any], int | None]] = [
        ({}, None),
        ({}, 100_000),
        ({}, 200_000),
        ({"threshold": 5_000}, None),
        ({"keep": 5}, None),
        ({"instructions": "Keep prices."}, None),
        ({"model": "sim/m"}, None),
    ]
    assert len({(await manifest_of(*it)).digest for it in configs}) == len(configs)
    plain = Agent(model=Sim.always("ok"))
    async with Runtime() as runtime:
        manifest = (await (await runtime.session(plain)).inspect("x")).manifest
    assert manifest.compaction is None
    assert "compaction" not in manifest.describe()


async def test_a_summariser_that_nobody_knows_is_an_error_when_the_manifest_is_made() -> None:
    with pytest.raises(UnknownModel, match=r"compaction.*nobody"):
        await manifest_of({"model": "nobody/x"})
