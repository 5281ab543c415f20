"""Recorded Anthropic requests, taken apart into our messages and built again by our driver."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.recorded_anthropic import FILES, driver_for, meaning, rebuilt

REQUESTS = [
    pytest.param(path, place, id=f"{path.stem}-{place}")
    for path in FILES
    for place, interaction in enumerate(json.loads(path.read_bytes())["interactions"])
    if "anthropic" in interaction["request"]["uri"]  # one recording goes on at another vendor
]


@pytest.mark.parametrize(("path", "place"), REQUESTS)
def test_a_recorded_request_is_rebuilt_with_the_same_meaning(path: Path, place: int) -> None:
    request = json.loads(path.read_bytes())["interactions"][place]["request"]
    recorded = request["body"]
    if "count_tokens" in request["uri"]:  # the same question, put to another door
        recorded |= {"max_tokens": 4096, "stream": False}
    ours = json.loads(driver_for(recorded).encode(rebuilt(recorded)))
    assert meaning(ours) == meaning(recorded)
    assert cached(ours) == ("cache_control" in json.dumps(recorded))


def cached(body: dict[str, Any]) -> bool:
    """Whether the last turn of the user's, the tools and the instructions, as far as there are any, are kept."""
    last = [it for it in body["messages"] if it["role"] == "user"][-1]
    places = [last["content"][-1], *body.get("tools", ())[-1:]]
    places += body["system"] if isinstance(body.get("system"), list) else []
    marks = {"cache_control" in place for place in places}
    assert len(marks) == 1
    return marks.pop()
