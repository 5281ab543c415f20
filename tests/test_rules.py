"""Rules as data: the most specific wins, deny wins ties, and a rule that can never match is an error that names it."""

import itertools
import json
import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import FILES, Rule, Taint, Tool, tool
from holdfast.charter import charter_of
from holdfast.errors import ConfigError
from holdfast.rulebook import RuleBook
from holdfast.rules import entries_of


@tool
async def send(
    to: list[str] | str = "", url: str = "", body: str = "", path: str = "", cents: int = 0
) -> str:
    """Send."""
    return to if isinstance(to, str) else ""


@tool
async def send_now(to: str) -> str:
    """Send now."""
    return to


@tool
async def fetch(url: str) -> str:
    """Fetch."""
    return url


TOOLS = {it.name: it for it in (send, send_now, fetch)}


def book(*rules: Rule, tools: dict[str, Tool] = TOOLS) -> RuleBook:
    found = charter_of((), rules, None, tools, ["sim/one", "sim/two"]).book
    assert found is not None
    return found


def said(rules: Iterable[Rule], name: str = "send", kind: Any = "tool", **arguments: Any) -> str:
    ruled = book(*rules).decide(kind, name, json.dumps(arguments))
    return "-" if ruled is None else f"{ruled.decision} {ruled.rule}"


def allow(name: str = "*", **fields: Any) -> Rule:
    return Rule(**{"id": "yes", "decision": "allow", "name": name, **fields})


def deny(name: str = "*", **fields: Any) -> Rule:
    return Rule(**{"id": "no", "decision": "deny", "name": name, **fields})


def ask(name: str = "*", **fields: Any) -> Rule:
    return Rule(**{"id": "who", "decision": "ask", "name": name, **fields})


def test_without_a_matching_rule_the_rules_say_nothing() -> None:
    assert said([deny("fetch")]) == "-"
    assert said([deny(arguments={"body": "*secret*"})], body="hello") == "-"
    assert said([deny(destinations=("evil.test",))], body="no place at all") == "-"


@pytest.mark.parametrize(
    ("rules", "arguments", "expected"),
    [
        ([deny("send"), allow("*")], {}, "deny no"),
        ([allow("send"), deny("*")], {}, "allow yes"),
        ([allow("send*"), deny("*")], {}, "allow yes"),
        ([allow("send"), deny("send*")], {}, "allow yes"),
        ([allow("send"), deny("*", arguments={"body": "*key*"})], {"body": "a key"}, "deny no"),
        ([allow("send", arguments={"cents": "5"}), deny("send")], {"cents": 5}, "allow yes"),
        ([allow("send", arguments={"cents": "5"}), deny("send")], {"cents": 50}, "deny no"),
        (
            [allow("send", destinations=("*@example.com",)), deny("send")],
            {"to": "Bob@EXAMPLE.com"},
            "allow yes",
        ),
        (
            [allow("send", destinations=("*@example.com",)), deny("send")],
            {"to": "bob@example.com.evil.test"},
            "deny no",
        ),
        (
            [allow("send", arguments={"body": "hi"}), deny("*", destinations=("evil.test",))],
            {"body": "hi", "url": "https://evil.test"},
            "deny no",
        ),
        (
            [allow("send", destinations=("api.example.com",)), deny("send", destinations=("*.example.com",))],
            {"url": "https://api.example.com/v1"},
            "allow yes",
        ),
        (
            [allow("send", destinations=("/srv/*",)), deny("send", destinations=("/srv/keys/*",))],
            {"path": "/srv/keys/../keys/a"},
            "deny no",
        ),
        ([ask("send", arguments={"body": "re:[0-9]{4}"}), allow("send")], {"body": "1234"}, "ask who"),
        ([ask("send", arguments={"body": "re:[0-9]{4}"}), allow("send")], {"body": "12345"}, "allow yes"),
    ],
)
def test_the_most_specific_rule_wins(rules: list[Rule], arguments: dict[str, Any], expected: str) -> None:
    for order in itertools.permutations(rules):
        assert said(order, **arguments) == expected


def test_deny_beats_ask_and_ask_beats_allow_among_equally_specific_rules() -> None:
    same = {"a": "sen*", "b": "*end"}  # four characters against four, and both hold
    assert said([allow(same["a"]), deny(same["b"])]) == "deny no"
    assert said([allow(same["a"]), ask(same["b"])]) == "ask who"
    assert said([ask(same["a"]), deny(same["b"])]) == "deny no"


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        (["a@example.com", "b@example.com"], "allow yes"),
        (["a@example.com", "b@evil.test"], "deny no"),
        (["a@evil.test"], "deny no"),
    ],
)
def test_each_destination_is_judged_by_itself_and_the_strictest_counts(to: list[str], expected: str) -> None:
    assert said([allow("send", destinations=("*@example.com",)), deny("send")], to=to) == expected


def test_two_rules_may_allow_the_two_places_of_one_call() -> None:
    rules = [
        allow("send", destinations=("a.example", "b.example")),
        deny("send"),
    ]
    assert said(rules, url="https://a.example", body="see https://b.example/x.") == "allow yes"
    assert said(rules, url="https://a.example", body="see https://c.example/x.") == "deny no"


def test_a_list_must_match_whole_to_allow_and_in_one_place_to_deny() -> None:
    rules = [allow("send", arguments={"to": "a*"}), deny("send", arguments={"to": "*z"})]
    assert said(rules, to=["ab", "ac"]) == "allow yes"
    assert said(rules, to=["ab", "xz"]) == "deny no"


EVASIONS = [
    "https://EVIL.test/x",
    "https://evil.test./x",
    "https://evil.test:8443/x",
    "http://evil.test",
    "ftp://evil.test/x",
    "look at https://evil.test/x, please",
    "https://good.example@evil.test/x",
    "https://good.example\\@evil.test/x",
    "https://evil%2etest/x",
    "https://\uff25\uff36\uff29\uff2c.test/x",
    "wss://evil.test",
    "HTTPS://evil.test",
    "x" * 5_000 + " https://evil.test",
]


@pytest.mark.parametrize("url", EVASIONS)
def test_a_denied_host_is_denied_however_it_is_written(url: str) -> None:
    assert said([deny("*", destinations=("evil.test",)), allow("fetch")], "fetch", url=url) == "deny no"


@pytest.mark.parametrize("url", EVASIONS)
def test_what_cannot_be_read_is_never_allowed(url: str) -> None:
    rules = [allow("fetch", destinations=("good.example",)), deny("fetch")]
    assert said(rules, "fetch", url=url) == "deny no"


@pytest.mark.parametrize("url", ["evil.test", "//evil.test/x", "evil.test/path"])
def test_an_argument_named_url_needs_no_scheme_to_be_a_destination(url: str) -> None:
    assert said([deny(destinations=("evil.test",))], "fetch", url=url) == "deny no"


@pytest.mark.parametrize(
    "given",
    [
        *(
            {"url": it}
            for it in ("https:/evil.test", "https:evil.test", "HTTPS:\\\\evil.test", "/\\evil.test")
        ),
        *(
            {"url": it}
            for it in ("evil.test/x@y", "x@evil.test", "a@b@evil.test:8080", "https:\n//evil.test")
        ),
        *({"server": it} for it in ("root@evil.test", "git@evil.test:house/repo", "git@[evil.test]:22")),
        {"urls": ["good.example", "evil.test"]},
        {"hosts": ["evil.test"]},
    ],
    ids=str,
)
def test_a_host_is_found_however_an_argument_that_is_named_so_writes_it(given: dict[str, Any]) -> None:
    assert said([deny(destinations=("evil.test",))], "fetch", **given) == "deny no"


@pytest.mark.parametrize("host", ["good.example", "git@good.example:house/repo", "ftp:21", "localhost:8080"])
def test_a_host_that_is_not_denied_is_not_taken_for_one_that_is(host: str) -> None:
    assert said([deny(destinations=("evil.test", "0.0.0.21"))], "fetch", host=host) == "-"


@pytest.mark.parametrize(
    "to", ['"eve"@evil.test', '"eve and co"@evil.test', "eve@evil\uff0etest", "eve@evil。test"]
)
def test_a_mail_address_is_found_however_it_is_written(to: str) -> None:
    assert said([deny("send", destinations=("*@evil.test",))], to=to) == "deny no"
    assert said([allow("send", destinations=("*@evil",)), deny("send")], to=to) == "deny no"


def test_what_stands_between_quotes_before_an_at_is_no_address_when_it_is_data() -> None:
    assert said([deny("send", destinations=("*@*",))], body='{"to": "@evil.test", "a": ["@b.c"]}') == "-"


@pytest.mark.parametrize(
    "given",
    [
        *(
            {"path": it}
            for it in ("/etc/passwd\n", "\n/srv/../etc/passwd", "x\n/../etc/passwd", "etc/passwd")
        ),
        *({"path": it} for it in ("x://../../etc/passwd", "http://a.example/../../../etc/passwd")),
        *({"target": it} for it in ("/x://../etc/passwd", "/etc/x://y", " /etc/passwd", "/etc/passwd\n")),
        *({"target": it} for it in ("/srv/x\n/../../etc/passwd", "/srv\\..\\etc\\passwd")),
        *(
            {"url": it}
            for it in ("file:///etc/passwd", "FILE:/etc/%70asswd", "file://localhost/srv/../etc/passwd?x")
        ),
        {"file": "file:/etc/passwd"},
        {"text": "look at file:///etc/passwd."},
        {"paths": ["/srv/a", "etc/passwd"]},
        {"directories": ["etc/x"]},
    ],
    ids=str,
)
def test_a_denied_path_is_denied_however_it_is_written(given: dict[str, Any]) -> None:
    assert said([deny("*", destinations=("/etc/*",)), allow("fetch")], "fetch", **given) == "deny no"


@tool(needs=(FILES,))
async def look(path: str = "/") -> str:
    """Look at a file of the session."""
    return path


LOOKING = {**TOOLS, "look": look}
WRITTEN = (
    "keys/a",
    "./keys/a",
    "/keys/a",
    "/workspace/keys/a",
    "//workspace/./keys//a",
    "/srv/work/keys/a",
    "keys",
    "keys/",
)


@pytest.mark.parametrize(
    "wanted", ["/workspace/keys/*", "/keys/*", "/srv/work/keys/*", "re:/workspace/keys/.*", "*"], ids=str
)
@pytest.mark.parametrize("path", WRITTEN, ids=str)
def test_a_file_of_the_session_is_the_same_one_however_it_is_written(path: str, wanted: str) -> None:
    arguments = json.dumps({"path": path})
    denying = book(deny("*", destinations=(wanted,)), tools=LOOKING)
    assert denying.decide("tool", "look", arguments, "/srv/work") is not None
    others = book(allow("look", destinations=(wanted,)), deny("*"), tools=LOOKING)
    ruled = others.decide("tool", "look", arguments, "/srv/work")
    assert ruled is not None
    assert ruled.decision == "allow"


@pytest.mark.parametrize(
    "path", ["workspace/keys/a", "/keysa", "/srv/keys/a", "/workspace/workspace/keys", "/"], ids=str
)
def test_another_file_of_the_session_is_not_taken_for_it(path: str) -> None:
    rules = [deny("*", destinations=("/workspace/keys/*", "/srv/work/keys/*"))]
    assert book(*rules, tools=LOOKING).decide("tool", "look", json.dumps({"path": path}), "/srv/work") is None


def test_a_path_without_its_slash_is_told_how_paths_are_written() -> None:
    with pytest.raises(ConfigError, match=r"rule 'yes' .* A path begins with a /, as in /src/\*"):
        book(allow(destinations=("src/*",)))


def test_other_tools_have_no_workspace() -> None:
    rules = book(deny("*", destinations=("/workspace/keys/*",)), tools=LOOKING)
    assert rules.decide("tool", "send", json.dumps({"path": "/keys/a"}), "/srv/work") is None
    assert rules.decide("tool", "send", json.dumps({"path": "/workspace/keys/a"}), "/srv/work") is not None


@pytest.mark.parametrize(
    "given",
    [
        {"file": "https://etc.example/etc/passwd"},
        {"body": "// etc\n/etc/passwd\n"},
        {"path": "/srv/etc/passwd"},
    ],
    ids=str,
)
def test_another_place_is_not_taken_for_a_denied_path(given: dict[str, Any]) -> None:
    assert said([deny("*", destinations=("/etc/*", "/https*"))], "fetch", **given) == "-"


def test_a_call_that_points_to_too_many_places_is_denied_without_looking() -> None:
    rules = [deny("send", destinations=("evil.test",))]
    many = " ".join(f"https://h{number}.example" for number in range(65))
    assert said(rules, body=many) == "deny "
    ruled = book(*rules).decide("tool", "send", json.dumps({"body": many}))
    assert ruled is not None
    assert ruled.code == "policy.unreadable"


def test_a_text_too_long_for_an_expression_is_denied_and_not_allowed() -> None:
    long = "1" * 100_000
    assert said([deny("send", arguments={"body": "re:x+"})], body=long) == "deny no"
    assert said([allow("send", arguments={"body": "re:1+"}), deny("send")], body=long) == "deny no"


def test_hostile_arguments_take_linear_time() -> None:
    rules = [
        deny("send", arguments={"body": "re:(a+)+$"}),
        deny("send", destinations=("evil.test",), id="to"),
        ask("send", arguments={"body": "*a*a*a*a*b"}),
    ]
    for text in ("a" * 60_000, "a@" * 1_000_000, "://" * 1_000_000, "a:" * 1_000_000, "." * 2_000_000):
        began = time.process_time()
        said(rules, body=text)
        assert time.process_time() - began < 2.0


def test_a_rule_may_be_about_models_and_turns() -> None:
    rules = [deny("sim/two", kind="model"), ask(kind="turn")]
    assert said(rules, "sim/two", "model") == "deny no"
    assert said(rules, "sim/one", "model") == "-"
    assert said(rules, "", "turn") == "ask who"
    assert said(rules, "send") == "-"


NEVER = {
    "unknown tool": (
        [deny("sendd")],
        "rule 'no' can never match: no tool here is named 'sendd'; there are send,",
    ),
    "unknown model": ([deny("sim/three", kind="model")], "no model here is named 'sim/three'"),
    "empty name": ([deny("")], "an empty pattern"),
    "empty argument": ([deny(arguments={"body": ""})], "an empty pattern"),
    "no argument's name": ([deny(arguments={"": "x"})], "an argument without a name"),
    "empty destination": ([deny(destinations=("",))], "an empty destination"),
    "invalid expression": ([deny(arguments={"body": "re:("})], "the expression '(' cannot be used"),
    "lookahead": ([deny(arguments={"body": "re:(?=x)"})], "RE2 has no lookahead"),
    "huge expression": ([deny(arguments={"body": "re:((x{1000}){1000}){1000}"})], "cannot be used"),
    "long pattern": ([deny("x" * 1_001)], "at most 1,000 characters"),
    "no such argument": (
        [deny("send", arguments={"subject": "x"})],
        "no argument 'subject'; there are to, url",
    ),
    "no host": ([deny(destinations=("exa mple.com",))], "is not a network rule"),
    "no address": ([deny(destinations=("@example.com",))], "is no mail address"),
    "a turn with a name": ([deny("send", kind="turn")], "a turn has no name"),
    "a model with arguments": ([deny(kind="model", arguments={"body": "x"})], "a model has no arguments"),
    "a bad id": ([deny(id="no way")], "its id has to be"),
    "the same id twice": ([deny("send"), deny("fetch")], "two different rules 'no'"),
    "shadowed by a tie": (
        [allow("send"), deny("send")],
        "rule 'yes' can never match: rule 'no' always comes",
    ),
    "twice the same": (
        [deny("send"), deny("send", id="too")],
        "rule 'too' can never match: rule 'no' always",
    ),
    "shadowed by a wider rule": (
        [deny("send_now"), allow("send_*")],
        "rule 'yes' can never match: rule 'no' always comes before it",
    ),
}


@pytest.mark.parametrize(("rules", "problem"), NEVER.values(), ids=NEVER)
def test_a_rule_that_can_never_match_is_an_error_that_names_it(rules: list[Rule], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        book(*rules)
    assert problem in str(caught.value)
    assert rules[0].id in str(caught.value) or rules[-1].id in str(caught.value)


def test_a_rule_for_other_agents_too_may_match_nothing_here() -> None:
    assert said([deny("shell", optional=True), deny("send", id="here")]) == "deny here"


def test_a_taint_rule_about_no_tool_is_an_error() -> None:
    with pytest.raises(ConfigError, match="labels 'web_\\*', and no tool here is named so"):
        charter_of((), (), Taint(labels={"web_*": ("untrusted",)}), TOOLS, [])
    with pytest.raises(ConfigError, match="trusted destinations"):
        charter_of((), (), Taint(trusted=("exa mple",)), TOOLS, [])


WORDS = st.sampled_from(["a", "b", "ab", "abc", "x@a.example", "https://a.example/v1", "/srv/a", "", "aab"])
PATTERNS = st.sampled_from(
    ["a", "a*", "*b", "*a*b*", "re:a+b?", "re:[ab]+", "*", "ab", "abc*", "re:.*example.*"]
)


@given(
    st.lists(
        st.tuples(st.sampled_from(["allow", "deny", "ask"]), PATTERNS, PATTERNS), min_size=1, max_size=40
    ),
    WORDS,
    WORDS,
)
def test_the_index_decides_as_looking_at_every_rule_does(
    wanted: list[tuple[Any, str, str]], body: str, path: str
) -> None:
    rules = [
        Rule(id=f"r{number}", decision=decision, arguments={"body": first, "path": second})
        for number, (decision, first, second) in enumerate(wanted)
    ]
    entries = [entry for place, rule in enumerate(rules) for entry in entries_of(rule, place)]
    given = {"body": body, "path": path}
    matching = [
        entry
        for entry in sorted(entries, key=lambda it: it.precedence)
        if all(pattern.matches(given[key]) for key, pattern in entry.arguments)
    ]
    ruled = RuleBook(entries).decide("tool", "send", json.dumps(given))
    assert (ruled.rule if ruled else None) == (matching[0].rule.id if matching else None)
