"""Capabilities: bundles that a manifest takes apart, asked for by name."""

import msgspec
import pytest

from holdfast.capability import Capability, CapabilityRef, SeedFile
from holdfast.errors import ConfigError


def test_a_capability_that_brings_nothing_is_only_a_name() -> None:
    empty = Capability(name="empty")
    assert (empty.instructions, empty.tools, empty.files, empty.hooks, empty.policies) == ("", (), (), (), ())
    assert (empty.depends, empty.needs) == ((), ())


def test_a_reference_and_a_file_can_be_written_down_and_read_back() -> None:
    ref = CapabilityRef(name="files", config={"read_only": True, "deep": {"a": [1, None]}})
    assert msgspec.json.decode(msgspec.json.encode(ref), type=CapabilityRef) == ref
    assert msgspec.json.encode(CapabilityRef(name="files")) == b'{"name":"files"}'
    file = SeedFile(path="/a.md", content="hello", read_only=True)
    assert msgspec.json.decode(msgspec.json.encode(file), type=SeedFile) == file


def test_what_is_no_tool_is_refused_with_the_capability_that_brings_it() -> None:
    with pytest.raises(ConfigError, match=r"capability 'kit': <built-in function len> is not a tool"):
        Capability(name="kit", tools=(len,))  # type: ignore[arg-type]


def test_a_capability_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Capability(name="files").name = "other"  # type: ignore[misc]
