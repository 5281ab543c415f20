"""Recorded Gemini requests, taken apart into our messages and built again by our driver."""

import json
from pathlib import Path

import pytest

from tests.drivers.grammar_gemini import check
from tests.drivers.recorded_gemini import FILES, TOLERATED, driver_for, meaning, model_of, rebuilt

REQUESTS = [
    pytest.param(path, place, id=f"{path.stem}-{place}")
    for path in FILES
    for place, it in enumerate(json.loads(path.read_bytes())["interactions"])
    if ":countTokens" not in it["request"]["uri"]  # we never ask how many tokens something has
]


def test_nothing_but_counting_tokens_is_left_out() -> None:
    recorded = sum(len(json.loads(path.read_bytes())["interactions"]) for path in FILES)
    assert len(REQUESTS) == recorded - 1


@pytest.mark.parametrize(("path", "place"), REQUESTS)
def test_a_recorded_request_is_rebuilt_with_the_same_meaning(path: Path, place: int) -> None:
    cassette = json.loads(path.read_bytes())["interactions"][place]["request"]
    body = cassette["body"]
    model, stream = model_of(cassette["uri"])
    driver, request = driver_for(body), rebuilt(body, model, stream=stream)
    ours = json.loads(driver.encode(request))
    assert meaning(ours) == meaning(body)
    check(ours, signed=model.startswith("gemini-3"))
    assert str(driver._address(request)) == cassette["uri"]


def test_every_tolerated_difference_occurs_in_the_recordings_and_has_a_reason() -> None:
    recorded = "".join(path.read_text() for path in FILES)
    for word in ('"return_value"', '"parameters_json_schema"', '"parameters":', '"thinking_budget"'):
        assert word in recorded
    assert all(TOLERATED.values())
