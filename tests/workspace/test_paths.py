"""Paths are judged once, and the same everywhere."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import WorkspaceError
from holdfast.workspace.paths import (
    MAX_DEPTH,
    MAX_NAME_BYTES,
    MAX_PATH_BYTES,
    PROTECTED,
    RESERVED,
    CanonicalPath,
    check_delete,
    check_protected,
    check_windows,
    check_write,
    display,
    normalise,
    windows_problem,
)
from tests.workspace.vectors import DATA, by_id, expected, input_of, of_surface

STORE = of_surface("store")
CHECKS = {"read": lambda key: None, "write": check_write, "delete": check_delete}


def judge(vector: dict[str, Any]) -> CanonicalPath:
    key = normalise(input_of(vector))
    CHECKS[vector.get("op", "read")](key)
    return key


@pytest.mark.parametrize("vector", [v for v in STORE if v["expect"] == "allow"], ids=by_id)
def test_an_allowed_vector_has_its_key_and_its_display(vector: dict[str, Any]) -> None:
    key = judge(vector)
    assert key == expected(vector, "session_path")
    assert display(key) == expected(vector, "display_path")


@pytest.mark.parametrize("vector", [v for v in STORE if v["expect"] == "deny"], ids=by_id)
def test_a_denied_vector_has_its_code(vector: dict[str, Any]) -> None:
    with pytest.raises(WorkspaceError) as refused:
        judge(vector)
    assert refused.value.code == vector["error"]


@pytest.mark.parametrize("vector", [v for v in STORE if v["expect"] == "deny"], ids=by_id)
def test_a_denial_takes_less_than_five_milliseconds(vector: dict[str, Any]) -> None:
    def once() -> float:
        begun = time.perf_counter()
        with pytest.raises(WorkspaceError):
            judge(vector)
        return time.perf_counter() - begun

    assert min(once() for _ in range(3)) < 0.005


@pytest.mark.parametrize("pair", DATA["pairs"], ids=by_id)
def test_pairs_are_the_same_or_distinct(pair: dict[str, Any]) -> None:
    keys = {normalise(path) for path in pair["paths"]}
    assert len(keys) == (1 if pair["relation"] == "same-key" else len(pair["paths"]))


def test_the_limits_and_reserved_names_are_those_of_the_vectors() -> None:
    assert DATA["limits"] == {
        "max_path_bytes": MAX_PATH_BYTES,
        "max_segment_bytes": MAX_NAME_BYTES,
        "max_depth": MAX_DEPTH,
    }
    assert {f"/{name}" for name in RESERVED} == set(DATA["reserved_for_runtime"])
    assert {f"/.git/{name}" for name in PROTECTED} >= set(DATA["protected_on_disk"])


ALPHABET = st.sampled_from(
    [*"/. ab~\\:*?é\u0301\n\0\u202e", "workspace", "..", "/workspace/", "\ud800", "€" * 90]
)
PATHS = st.lists(ALPHABET, max_size=40).map("".join)


def key_or_none(path: str) -> CanonicalPath | None:
    try:
        return normalise(path)
    except WorkspaceError:
        return None


@given(PATHS)
def test_what_is_shown_leads_back_to_the_same_file(path: str) -> None:
    key = key_or_none(path)
    if key is not None:
        assert normalise(str(display(key))) == key
        assert display(key).startswith("/workspace")


@given(PATHS)
def test_a_key_is_clean(path: str) -> None:
    key = key_or_none(path)
    if key is not None:
        assert key.startswith("/")
        assert "//" not in key
        assert not {"..", ".", ""} & set(key.names)
        assert not set(key) & set("\0\n\u202e\ud800")
        assert len(key.encode()) <= MAX_PATH_BYTES


@given(PATHS)
def test_normalising_a_key_again_changes_nothing(path: str) -> None:
    key = key_or_none(path)
    if key is not None:
        assert normalise(key) is key


def verdict(path: str | bytes) -> tuple[str, str]:
    try:
        return "", normalise(path)
    except WorkspaceError as refused:
        return refused.code, str(refused)


@given(PATHS.filter(str.isprintable))
def test_bytes_are_judged_as_the_text_they_are(path: str) -> None:
    assert verdict(path.encode()) == verdict(path)


@given(PATHS)
def test_an_error_never_carries_raw_control_characters(path: str) -> None:
    code, message = verdict(path)
    if code:
        assert message.isprintable()
        assert len(message) < 900


def test_the_longest_path_can_be_shown_and_read_back() -> None:
    key = normalise("/" + "/".join(["a" * 255] * 16))
    assert len(key) == MAX_PATH_BYTES
    assert normalise(str(display(key))) == key


def test_a_directory_named_like_the_mount_point_is_not_stripped_twice() -> None:
    key = normalise("/workspace/workspace/x")
    assert key == "/workspace/x"
    assert normalise(key) == "/workspace/x"
    assert normalise(str(key)) == "/x"


@pytest.mark.parametrize("path", ["/a/.. /", "/a/ ..", "/a/..  "])
def test_spaces_do_not_hide_dots_at_the_end(path: str) -> None:
    key = key_or_none(path)
    assert key is None or normalise(str(display(key))) == key
    if path != "/a/ ..":
        assert key is None


@pytest.mark.parametrize("path", ["/a b/c", "/a\u00a0b", "/\u3000", "/❤️.txt", "/한글", "/שלום"])
def test_visible_names_in_any_script_are_fine(path: str) -> None:
    assert normalise(path) == path


@pytest.mark.parametrize(
    "character", ["\u200b", "\u200d", "\u2060", "\u00ad", "\U000e0041", "\u3164", "\u2029", "\u061c"]
)
def test_invisible_characters_are_refused(character: str) -> None:
    with pytest.raises(WorkspaceError) as refused:
        normalise(f"/a{character}b")
    assert refused.value.code == "unsafe-char"


@pytest.mark.parametrize("path", ["/.TASKS/x", "/.Hooks", "/.runtime/a/b", "/.background"])
def test_reserved_directories_are_reserved_on_disks_that_ignore_case_too(path: str) -> None:
    for check in (check_write, check_delete):
        with pytest.raises(WorkspaceError) as refused:
            check(normalise(path))
        assert refused.value.code == "reserved"


def test_reserved_names_further_down_are_free() -> None:
    check_write(normalise("/a/.tasks/x"))


@pytest.mark.parametrize(
    "path",
    [
        "/.git",
        "/.git/config",
        "/.GIT/Hooks/x",
        "/sub/.git/hooks/x",
        "/sub/.git",
        "/.git/commondir",
        "/.git/config.worktree",
        "/GIT~1/config",
    ],
)
def test_what_git_obeys_is_protected_anywhere_in_any_case(path: str) -> None:
    with pytest.raises(WorkspaceError) as refused:
        check_protected(normalise(path))
    assert refused.value.code == "protected"


@pytest.mark.parametrize(
    "path", ["/.git/HEAD", "/.gitignore", "/.github/config", "/git/config", "/a.git/config"]
)
def test_other_names_are_not_protected(path: str) -> None:
    check_protected(normalise(path))


@pytest.mark.parametrize(
    "name", ["con", "AUX", "nul.txt", "COM1.log", "lpt¹", "CONIN$", "a.", "a ", "a:b", "x|y", "NUL .tar"]
)
def test_windows_takes_these_names_for_something_else(name: str) -> None:
    assert windows_problem(name)


@pytest.mark.parametrize("name", ["console", "com", "com10", "lpt", "nullable.txt", ".con", "a.b.c", "naïve"])
def test_windows_takes_these_names_as_they_are(name: str) -> None:
    assert not windows_problem(name)


def test_every_segment_is_checked_for_windows() -> None:
    with pytest.raises(WorkspaceError) as refused:
        check_windows(normalise("/ok/nul/x"))
    assert refused.value.code == "windows-name"


def test_the_host_root_is_another_name_of_the_workspace() -> None:
    assert normalise("/srv/app/src/x", root="/srv/app") == "/src/x"
    assert normalise("/srv/app", root="/srv/app") == "/"
    assert normalise("/srv/apple/x", root="/srv/app") == "/srv/apple/x"
    assert normalise("srv/app/x", root="/srv/app") == "/srv/app/x"
    assert normalise("/x", root="/") == "/x"


def test_the_mount_point_wins_over_a_host_root_inside_it() -> None:
    assert normalise("/workspace/app/x", root="/workspace/app") == "/app/x"


def test_an_error_shows_the_host_root_as_the_workspace() -> None:
    with pytest.raises(WorkspaceError, match=r"'/workspace/\.\./etc'") as refused:
        normalise("/srv/app/../etc", root="/srv/app")
    assert "srv" not in str(refused.value)


@pytest.mark.parametrize(
    "path", ["/.holdfast/hooks.toml", "/.Holdfast/x.py", "/deep/.holdfast", "/a/.HOLDFAST/b/c"]
)
def test_the_hooks_that_a_workspace_brings_are_protected_anywhere_in_any_case(path: str) -> None:
    with pytest.raises(WorkspaceError) as refused:
        check_protected(normalise(path))
    assert refused.value.code == "protected"
    check_protected(normalise("/holdfast/hooks.toml"))
