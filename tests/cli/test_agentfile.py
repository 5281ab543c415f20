"""Agent files: what they may say, and how a mistake in one is told."""

from pathlib import Path

import pytest

from holdfast import CapabilityRef, ConfigError, Limits, Settings
from holdfast.cli.agentfile import read_agent
from holdfast.config import Config

PLAIN = """\
---
# a comment
name: "the reader"
description: Reads # and nothing else
model: openai-chat/gpt-5-mini
capabilities:
  - files
  - confirm
limits:
  max_iterations: 20
  tool_timeout: 2.5
settings:
  stop: [END, "STOP"]
---

Be brief.

---
This line is the model's.
"""
TOML = """\
+++
name = "the reader"
model = "openai-chat/gpt-5-mini"
capabilities = ["confirm", {name = "files", config = {read_only = true}}]
[limits]
max_iterations = 20
+++
Be brief.
"""


def read(tmp_path: Path, text: str) -> tuple[str, Config]:
    file = tmp_path / "reader.md"
    file.write_bytes(text.encode())
    agent = read_agent(file)
    return agent.name, agent.layers[0].config


def test_plain_front_matter_says_everything_a_file_may_say(tmp_path: Path) -> None:
    name, config = read(tmp_path, PLAIN)
    assert name == "the reader"
    assert config.model == "openai-chat/gpt-5-mini"
    assert [it.name for it in config.capabilities] == ["files", "confirm"]
    assert config.limits == Limits(max_iterations=20, tool_timeout=2.5)
    assert config.settings == Settings(stop=("END", "STOP"))
    assert config.instructions is not None
    assert config.instructions.strip() == "Be brief.\n\n---\nThis line is the model's."


def test_toml_front_matter_can_configure_capabilities(tmp_path: Path) -> None:
    name, config = read(tmp_path, TOML)
    assert name == "the reader"
    refs = (CapabilityRef(name="confirm"), CapabilityRef(name="files", config={"read_only": True}))
    assert config.capabilities == refs


@pytest.mark.parametrize("text", ["Be brief.", "---\n---\nBe brief.", "\ufeff---\r\n---\r\nBe brief.\r\n"])
def test_front_matter_may_be_left_out_or_empty(tmp_path: Path, text: str) -> None:
    name, config = read(tmp_path, text)
    assert name == "reader"
    assert (config.instructions or "").strip() == "Be brief."


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("name: a\nnmae: b", "nmae"),
        ("name: a\nname: b", "line 3: 'name: b' cannot be read: name is there twice"),
        ("name", "line 2: 'name' cannot be read: it is no key: value"),
        ("  - a", "line 2: '- a' cannot be read: it belongs to nothing above"),
        ("name: a\n  b: c", "line 3: 'b: c' cannot be read: it belongs to nothing above"),
        ("limits:\n  - a\n  b: c", "line 4: 'b: c' cannot be read: a list and pairs are mixed"),
        ("limits:\n  deep:\n    deeper: 1", "line 3: 'deep:' cannot be read: it is nested too deep"),
        ("name: {a: b}", "more YAML than is read here"),
        ("name: &anchor", "more YAML than is read here"),
        ("name: |", "more YAML than is read here"),
        ("name: 'a", "its quotes do not match"),
        ("limits:\n  max_iteration: 3", "limits has no max_iteration (it has max_iterations"),
        ("limits:\n  max_iterations: many", "Expected `int | null`"),
        ("capabilities: 3", "$.capabilities"),
        ("model: [a, b]", "$.model"),
    ],
)
def test_a_mistake_names_its_line_or_key(tmp_path: Path, header: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"---\n{header}\n---\nBe brief.")
    assert said in str(caught.value)
    assert "reader.md" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("---\nname: a\nBe brief.", "never ends"),
        ("+++\nname = \n+++\n", "is not TOML"),
        ("+++\nx = 1\n+++\n", "`x`"),
    ],
)
def test_broken_front_matter_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"reader\.md") as caught:
        read(tmp_path, text)
    assert said in str(caught.value)


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    file = tmp_path / "reader.md"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_agent(file)
