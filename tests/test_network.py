"""Network access: rules, the strict reading of URLs, and narrowing.

`vectors/urls.json` holds 185 URL vectors, 30 rules and 15 merges. Here run, in full:

    30   rules, valid or not
    15   merges: the rules that remain, and which URLs they let through
    116  URL vectors that parsing and the access list decide alone: verdict, error code, spelling

The other 69 URL vectors need what does not exist yet; of these only the access list's half is checked, which is
that the list lets the first URL through and leaves the refusal to the guard:

    48   an address or an internal name in the URL itself: the address guard
    7    what a name resolves to: the address guard after the resolver, and the pinned address
    14   redirects: each hop again, the downgrade, the limit, and the headers dropped
"""

import json
from pathlib import Path
from typing import Any

import idna
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.errors import ConfigError
from holdfast.network import NetworkAccess, Url, check_rule, narrow, permits, read_url, refusal

VECTORS = json.loads((Path(__file__).parent / "vectors" / "urls.json").read_text(encoding="utf-8"))
GUARD_ERRORS = ("private-address", "metadata-address", "internal-name")
MERGE_URLS = sorted({url for merge in VECTORS["merges"] for url in merge["allows"]})


def needs(vector: dict[str, Any]) -> str:
    """The part beyond the access list that this vector is about; empty when the list decides it."""
    if "redirects" in vector:
        return "redirects"
    if "dns" in vector:
        return "resolver"
    return "address guard" if vector.get("error") in GUARD_ERRORS else ""


HERE = [vector for vector in VECTORS["vectors"] if not needs(vector)]
WAITING = [vector for vector in VECTORS["vectors"] if needs(vector)]


def access_of(layer: dict[str, list[str]]) -> NetworkAccess:
    """A layer of the vectors, which write the closed list as `<none>`, in our terms."""
    allowed = layer.get("allowed")
    closed = allowed == ["<none>"]
    return NetworkAccess(
        allowed=None if allowed is None else () if closed else tuple(allowed),
        blocked=tuple(layer.get("blocked", ())),
    )


def url_of(vector: dict[str, Any]) -> str:
    if "repeat" in vector:
        parts = vector["repeat"]
        return str(parts["prefix"] + parts["unit"] * parts["count"] + parts.get("suffix", ""))
    if "url_json_escape" in vector:
        return str(json.loads(f'"{vector["url_json_escape"]}"'))
    return str(vector["url"])


def test_the_docstring_counts_the_vectors_right() -> None:
    kinds = [needs(vector) for vector in VECTORS["vectors"]]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "": 116,
        "address guard": 48,
        "resolver": 7,
        "redirects": 14,
    }
    assert (len(VECTORS["rule_syntax"]), len(VECTORS["merges"])) == (30, 15)


@pytest.mark.parametrize("case", VECTORS["rule_syntax"], ids=lambda case: repr(case["rule"]))
def test_a_rule_is_one_of_three_forms_or_an_error_that_shows_them(case: dict[str, Any]) -> None:
    if case["valid"]:
        check_rule(case["rule"])
    else:
        with pytest.raises(ConfigError, match=r"not a network rule: .+ Write a host \(example\.com\)"):
            check_rule(case["rule"])


@pytest.mark.parametrize("vector", HERE, ids=lambda vector: vector["id"])
def test_a_vector_the_list_decides_has_its_verdict_and_spelling(vector: dict[str, Any]) -> None:
    access, url = access_of(VECTORS["rulesets"][vector["rules"]]), url_of(vector)
    assert refusal(access, url) == vector.get("error")
    assert permits(access, url) is (vector["expect"] == "allow")
    if vector["expect"] == "allow":
        assert str(read_url(url)) == vector["normalized"]


@pytest.mark.parametrize("vector", WAITING, ids=lambda vector: vector["id"])
def test_a_vector_for_the_guard_passes_the_list_and_is_left_to_the_guard(vector: dict[str, Any]) -> None:
    assert refusal(access_of(VECTORS["rulesets"][vector["rules"]]), url_of(vector)) is None


@pytest.mark.parametrize("merge", VECTORS["merges"], ids=lambda merge: merge["name"])
def test_a_merge_leaves_the_rules_and_the_urls_of_the_vector(merge: dict[str, Any]) -> None:
    effective = narrow(access_of(merge["parent"]), access_of(merge["child"]))
    assert effective == access_of(merge["effective"])
    assert [url for url in MERGE_URLS if permits(effective, url)] == sorted(merge["allows"])


def test_two_lists_with_nothing_in_common_stay_closed_under_any_later_layer() -> None:
    closed = narrow(NetworkAccess(allowed=("a.test",)), NetworkAccess(allowed=("b.test",)))
    assert closed.allowed == ()
    assert narrow(closed, NetworkAccess(allowed=("a.test",))).allowed == ()
    assert narrow(closed, NetworkAccess()).allowed == ()


def test_the_closed_list_and_the_open_one_stay_apart_in_json() -> None:
    for access in (NetworkAccess(), NetworkAccess(allowed=()), NetworkAccess(blocked=("a.test",))):
        assert msgspec.json.decode(msgspec.json.encode(access), type=NetworkAccess) == access
    assert msgspec.json.encode(NetworkAccess()) == b"{}"


@pytest.mark.parametrize("rule", ["*", "example.com/path", "<none>", "https://example.com/?q=1"])
def test_a_rule_that_cannot_be_read_allows_nothing_and_blocks_everything(rule: str) -> None:
    assert refusal(NetworkAccess(allowed=(rule,)), "https://example.com/path") == "not-allowed"
    assert refusal(NetworkAccess(blocked=(rule,)), "https://other.test/") == "blocked"


@pytest.mark.parametrize(
    "rule", ["https://me:hunter2@example.com/x", "me:hunter2@example.com", "https://example.com/?key=hunter2"]
)
def test_the_error_about_a_rule_does_not_repeat_its_secret(rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_rule(rule)
    assert "example.com" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "hint"),
    [
        ("example.com:8443", "needs https://"),
        ("2001:db8::1", r"needs \[\]"),
        ("https://example.com/v1/*", "without one"),
        ("https://example.com:0/", "bad-port"),
        ("https://example.com/a%2Fb/", "escaped slash"),
        ("https://example.com//a", "empty segment"),
        ("*.localhost", "two parts"),
        ("-example.com", "no valid host name"),
    ],
)
def test_the_error_about_a_rule_says_what_to_change(rule: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        check_rule(rule)


@pytest.mark.parametrize(
    "path", ["/v1/..%2fadmin", "/v1/x%2F..%2F..%2Fadmin", "/v1/..%5Cadmin", "/v1//..%2f../admin", "//v1/x"]
)
def test_a_path_that_some_servers_read_differently_must_stay_inside_in_both_readings(path: str) -> None:
    access = NetworkAccess(allowed=("https://example.com/v1/",))
    assert refusal(access, f"https://example.com{path}") == "not-allowed"


@pytest.mark.parametrize("path", ["/private%2Fx", "/a%2f..%2fprivate/x", "//private/x", "/%70rivate//x"])
def test_a_block_on_a_path_holds_in_either_reading_of_it(path: str) -> None:
    access = NetworkAccess(blocked=("https://example.com/private/",))
    assert refusal(access, f"https://example.com{path}") == "blocked"


def test_an_escaped_slash_inside_the_prefix_is_data() -> None:
    access = NetworkAccess(allowed=("https://example.com/projects/",))
    url = "https://example.com/projects/group%2fname/%252e%252e/files"
    assert permits(access, url)
    assert str(read_url(url)) == "https://example.com/projects/group%2Fname/%252e%252e/files"


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "0x8.0x8.2056", "[::ffff:8.8.8.8]", "[::ffff:808:808]", "8.8.8.8."]
)
def test_every_spelling_of_an_address_is_that_address(host: str) -> None:
    assert refusal(NetworkAccess(blocked=("8.8.8.8",)), f"http://{host}/") == "blocked"


@pytest.mark.parametrize(
    "host",
    [
        "\N{KELVIN SIGN}.test",  # lower() makes it an ASCII k
        "ev\u034fil.test",  # invisible, and dropped by some resolvers
        "\u1fb4.test",
        "xn--abc-.test",  # names plain ASCII
        "xn--Bcher-kVa.xn--a",
        "\u0301a.test",
        "a" * 64 + ".test",
        "é" * 60 + ".test",
        "[fe80::1%25eth0]",
        "[::1",
        "1_0.1",
        "..",
        "",
    ],
)
def test_a_host_with_two_possible_meanings_is_refused(host: str) -> None:
    assert isinstance(read_url(f"https://{host}/"), str)
    assert not permits(NetworkAccess(), f"https://{host}/")


NAMES = st.sampled_from(["a.test", "x.a.test", "y.x.a.test", "xa.test", "b.test", "8.8.8.8"])
SPELLED = st.one_of(NAMES, NAMES.map(str.upper), NAMES.map("{}.".format))
PORTS = st.sampled_from(["", ":443", ":8443"])
SEGMENTS = st.sampled_from(
    ["v1", "v1.5", "%761", "x", "", ".", "..", "%2e%2e", "..%2fx", "v1%2F..", "v1%5C", "ü"]
)
PATHS = st.lists(SEGMENTS, max_size=4).map(lambda parts: "".join(f"/{part}" for part in parts))
URLS = st.builds("{}://{}{}{}".format, st.sampled_from(["http", "https"]), SPELLED, PORTS, PATHS)
UNREADABLE = st.sampled_from(["*", "a.test/x", "<none>"])
RULES = st.one_of(SPELLED, SPELLED, NAMES.map("*.{}".format), URLS, URLS, UNREADABLE)
LISTS = st.lists(RULES, max_size=4).map(tuple)
ACCESS = st.builds(NetworkAccess, allowed=st.none() | LISTS, blocked=st.just(()) | LISTS)
SAMPLE = st.lists(URLS, min_size=1, max_size=12)


@given(ACCESS, ACCESS, SAMPLE)
def test_narrowing_permits_exactly_what_both_layers_permit(
    parent: NetworkAccess, child: NetworkAccess, urls: list[str]
) -> None:
    both = narrow(parent, child)
    for url in urls:
        assert permits(both, url) == (permits(parent, url) and permits(child, url))


@given(ACCESS, ACCESS, ACCESS, SAMPLE)
def test_narrowing_is_associative(
    first: NetworkAccess, second: NetworkAccess, third: NetworkAccess, urls: list[str]
) -> None:
    left, right = narrow(narrow(first, second), third), narrow(first, narrow(second, third))
    assert left == right
    assert [permits(left, url) for url in urls] == [permits(right, url) for url in urls]


@given(ACCESS, SAMPLE)
def test_narrowing_by_itself_or_by_an_open_layer_changes_no_verdict(
    access: NetworkAccess, urls: list[str]
) -> None:
    same = narrow(access, access)
    assert narrow(same, same) == narrow(same, NetworkAccess()) == narrow(NetworkAccess(), same) == same
    assert [permits(same, url) for url in urls] == [permits(access, url) for url in urls]


@given(st.text() | st.text().map("https://{}".format) | st.text().map("https://a.test/{}".format) | URLS)
@example("https://[" + "]" * 8000 + ":x")
@example("https://a.test:" + "0" * 8000 + "443/")
@example("https://" + "\N{LATIN SMALL LETTER A WITH DIAERESIS}" * 4000)
@example("https://xn--99999999.test/")
def test_any_text_is_a_url_in_one_spelling_or_a_fault(text: str) -> None:
    url = read_url(text)
    if isinstance(url, Url):
        assert str(url).isascii()
        assert read_url(str(url)) == url


@given(st.text() | RULES)
def test_any_text_is_a_rule_or_a_config_error(text: str) -> None:
    alone = NetworkAccess(allowed=(text,))
    if narrow(alone, alone).allowed == (text,):
        check_rule(text)
    else:
        with pytest.raises(ConfigError, match="Write a host"):
            check_rule(text)


@given(st.text(st.characters(categories=["L", "M", "N", "S", "Cf"]), min_size=1, max_size=5))
@example("\u13a0")
@example("ß")
@example("ΑΣ")
@example("İ")
def test_a_name_beyond_ascii_means_what_the_idna_library_says_or_nothing(label: str) -> None:
    url = read_url(f"https://{label}.test/")
    try:
        expected = idna.encode(f"{label}.test", uts46=True).decode()
    except idna.IDNAError:
        return
    if isinstance(url, Url):
        assert url.host == expected
