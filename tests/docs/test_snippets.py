"""Every Python block of README.md and docs/*.md does what the page says. The rule is at the top of docs/README.md."""

import os
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.pages import PAGES, PageError, prints, run_page, snippets

WITH_CODE = [
    page for page in (ROOT / "README.md", *PAGES) if page.exists() and "```python" in page.read_text()
]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ours = ("HOLDFAST_MODEL", "HOLDFAST_DB")
    for name in (*ours, *[it for it in os.environ if it.endswith(("_API_KEY", "_BASE_URL"))]):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    ran = run_page(page)
    assert ran or "```python no-run" in page.read_text()


def write(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text)
    return page


def test_the_blocks_of_a_page_share_their_names_and_may_await(tmp_path: Path) -> None:
    text = "```python\nimport asyncio\n```\n\n```python\nawait asyncio.sleep(0)\nprint(2)\n```\n```text\n2\n```\n"
    assert run_page(write(tmp_path, text)) == 2


def test_a_block_may_be_a_whole_program(tmp_path: Path) -> None:
    text = '```python\nimport asyncio\nasync def main(): print("hi")\nasyncio.run(main())\n```\n```text\nhi\n```\n'
    assert run_page(write(tmp_path, text)) == 1


LIES = {
    "another output": "```python\nprint(1)\n```\n```text\n2\n```\n",
    "more output than shown": "```python\nprint(1)\nprint(2)\n```\n```text\n1\n```\n",
    "output that is not shown": "```python\nprint(1)\n```\n",
    "output shown too far away": "```python\nprint(1)\n```\nwords\n```text\n1\n```\n",
    "a block that is not run, without a reason": "```python no-run\nx\n```\n",
    "a block under another name": "```py\nx\n```\n",
    "an unknown option": "```python skip\nx\n```\n",
    "an indented block": "- so\n\n  ```python\n  x\n  ```\n",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_page_that_lies_or_hides_is_found(lie: str, tmp_path: Path) -> None:
    with pytest.raises(PageError):
        run_page(write(tmp_path, LIES[lie]))


def test_a_block_that_raises_fails_its_page_at_its_line(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        run_page(write(tmp_path, "# Title\n\n```python\nx = 0\n1 / x\n```\n"))
    assert raised.traceback[-1].lineno == 4


def test_a_block_that_is_not_run_is_left_out() -> None:
    assert not list(snippets("```python no-run\n# Not run: needs a key.\nx\n```\n"))


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a …b", "a long b", True),
        ("a …b", "a long\nb", False),
        ("a\n…\nd", "a\nb\nc\nd", True),
        ("a\n…\nd", "a\nd", True),
        ("a", "a  \n\n", True),
        ("a.c", "abc", False),
    ],
)
def test_an_ellipsis_stands_for_anything(shown: str, printed: str, same: bool) -> None:
    assert prints(shown, printed) is same
