"""Every driver on a real connection that misbehaves in every way connections do.

What only one protocol has is in its own file, such as `test_anthropic_network`.
"""

import asyncio
import gzip
import itertools
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.drivers import transport
from holdfast.errors import ConfigError, DriverError, MissingCredential
from holdfast.registry import DRIVERS, Registry
from tests.drivers.tongues import KEY, SAID, TONGUES, Tongue, request
from tests.drivers.wire_server import (
    SSE,
    Exchange,
    Script,
    WireServer,
    breaks_off,
    head,
    in_chunks,
    says,
    streams,
)

pytestmark = pytest.mark.parametrize("tongue", TONGUES, ids=[tongue.name for tongue in TONGUES])
CHUNKED = "transfer-encoding: chunked"


def silent(*_: object) -> None:
    """Nobody listens."""


async def answered(tongue: Tongue, script: Script, **options: Any) -> bool:
    async with WireServer([script]) as server:
        return (await tongue.ask(server, **options)).message.text == SAID


def endless(tongue: Tongue, *noise: bytes) -> Script:
    """The first words, and then this without end."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(head("200 OK", SSE, CHUNKED), *in_chunks(tongue.begin))
        while True:
            await exchange.send(*in_chunks(noise))
            await asyncio.sleep(0.01)

    return script


# -- good answers


async def test_streamed_and_whole_answers_give_the_same_reply_whatever_was_asked_for(tongue: Tongue) -> None:
    streamed, whole = streams(*tongue.events), says(tongue.whole)
    async with WireServer([streamed, whole, whole, streamed]) as server:
        first = await tongue.ask(server, stream=True)
        assert first == await tongue.ask(server, stream=False)
        assert first == await tongue.ask(server, stream=True)
        assert first == await tongue.ask(server, stream=False)
    assert (first.message.text, first.stop, first.response_id) == (SAID, "end_turn", "r1")
    assert (first.usage.input_tokens, first.usage.output_tokens) == (1, 2)


async def test_the_request_carries_the_key_the_headers_and_the_encoded_body(tongue: Tongue) -> None:
    async with WireServer([streams(*tongue.events)]) as server:
        driver = tongue.made(server, headers={"X-Title": "holdfast"})
        await driver.reply(request(), silent)
        sent = server.exchanges[0]
        assert sent.head.startswith(f"POST {tongue.path} HTTP/1.1\r\n".encode())
        assert sent.headers[tongue.key_header] == tongue.before_key + KEY
        assert (sent.headers["x-title"], sent.headers["content-type"]) == ("holdfast", "application/json")
        assert (sent.headers["accept"], sent.headers["user-agent"]) == ("text/event-stream", "holdfast")
        assert sent.body == driver.encode(request())
        await driver.close()


async def test_a_query_in_the_base_url_stays(tongue: Tongue) -> None:
    async with WireServer([streams(*tongue.events)]) as server:
        await tongue.ask(server, base_url=server.url + "/?api-version=1")
        asked = server.exchanges[0].head.partition(b" HTTP/1.1")[0].decode()
    path, _, query = tongue.path.partition("?")
    assert asked == f"POST {path}?api-version=1" + (f"&{query}" if query else "")


async def test_one_connection_serves_one_call_after_the_other_and_one_driver_many_at_once(
    tongue: Tongue,
) -> None:
    async with WireServer([streams(*tongue.events)]) as server:
        driver = tongue.made(server)
        for _ in range(3):
            await driver.reply(request(), silent)
        assert len({exchange.writer for exchange in server.exchanges}) == 1
        replies = await asyncio.gather(*[driver.reply(request(), silent) for _ in range(100)])
        assert {reply.message.text for reply in replies} == {SAID}
        await driver.close()


async def test_pieces_are_told_while_the_stream_is_still_open(tongue: Tongue) -> None:
    heard = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(head("200 OK", SSE, CHUNKED), *in_chunks(tongue.begin))
        await heard.wait()
        await exchange.send(*in_chunks(tongue.events[len(tongue.begin) :]), b"0\r\n\r\n")

    async with WireServer([script]) as server:
        driver = tongue.made(server)
        reply = await driver.reply(request(), lambda kind, piece, index: heard.set())
        assert reply.message.text == SAID
        await driver.close()


async def test_compressed_answers_are_read(tongue: Tongue) -> None:
    packed = gzip.compress(b"".join(tongue.events))
    assert await answered(
        tongue, says(packed, content_type="text/event-stream", extra="content-encoding: gzip")
    )


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.floats(0, 1), max_size=30))
async def test_any_split_on_a_real_connection_gives_the_same_reply(
    tongue: Tongue, places: list[float]
) -> None:
    body = b"".join(tongue.events)
    edges = [0, *sorted(int(place * len(body)) for place in places), len(body)]
    assert await answered(tongue, streams(*(body[start:end] for start, end in itertools.pairwise(edges))))


async def test_a_stream_byte_by_byte_gives_the_same_reply(tongue: Tongue) -> None:
    assert await answered(tongue, streams(*[bytes([byte]) for byte in b"".join(tongue.events)]))


# -- the end that is missing


async def test_a_stream_that_ends_before_its_terminal_event_is_broken(tongue: Tongue) -> None:
    for count in range(len(tongue.needed)):
        error = await tongue.failure(streams(*tongue.needed[:count]))
        assert (error.kind, error.retryable) == ("broken_stream", True), count


@pytest.mark.parametrize("abort", [False, True])
async def test_a_connection_that_breaks_off_or_is_reset_is_an_error_and_no_answer(
    tongue: Tongue, abort: bool
) -> None:
    for events in (tongue.begin, tongue.needed[:-1]):
        error = await tongue.failure(breaks_off(*events, abort=abort))
        assert (error.kind, error.retryable) == ("connection", True)


@pytest.mark.parametrize("abort", [False, True])
async def test_what_breaks_or_hangs_after_the_models_last_word_costs_no_second_call(
    tongue: Tongue, abort: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "TAIL", 0.05)
    for missing in range(len(tongue.after) + 1):
        events = tongue.events[: len(tongue.events) - missing]
        assert await answered(tongue, breaks_off(*events, abort=abort))
        assert await answered(tongue, streams(*events, end=False))


async def test_the_last_event_may_lack_its_blank_line(tongue: Tongue) -> None:
    assert await answered(tongue, streams(*tongue.needed[:-1], tongue.needed[-1].strip()))


# -- silence


async def test_a_half_open_stream_is_stalled(tongue: Tongue) -> None:
    error = await tongue.failure(streams(*tongue.begin, end=False), stall_timeout=0.3)
    assert (error.kind, error.retryable) == ("stalled", True)


async def test_noise_without_progress_does_not_keep_a_stream_alive(tongue: Tongue) -> None:
    for noise in (b": keep-alive\n\n", *tongue.noise):
        assert (await tongue.failure(endless(tongue, noise), stall_timeout=0.3)).kind == "stalled"


async def test_a_server_that_never_begins_to_answer_times_out(tongue: Tongue) -> None:
    error = await tongue.failure(Exchange.gone, stall_timeout=0.1)
    assert (error.kind, error.retryable) == ("timeout", True)


async def test_blank_lines_do_not_keep_a_whole_answer_alive(tongue: Tongue) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(head("200 OK", "content-type: application/json", CHUNKED))
        while True:
            await exchange.send(*in_chunks([b"\n"]))
            await asyncio.sleep(0.01)

    assert (await tongue.failure(script, stream=False, stall_timeout=0.3)).kind == "stalled"


async def test_progress_keeps_a_slow_stream_alive(tongue: Tongue) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(head("200 OK", SSE, CHUNKED), *in_chunks(tongue.begin))
        for _ in range(15):
            await exchange.send(*in_chunks([tongue.begin[-1]]))
            await asyncio.sleep(0.05)
        await exchange.send(*in_chunks(tongue.events[len(tongue.begin) :]), b"0\r\n\r\n")

    async with WireServer([script]) as server:
        assert (await tongue.ask(server, stall_timeout=0.6)).message.text.endswith(SAID[4:])


# -- refusals


async def test_a_429_says_how_long_to_wait(tongue: Tongue) -> None:
    for stream in (True, False):
        error = await tongue.failure(
            tongue.refuses("429 Slow", "slow down", extra="retry-after: 12"), stream=stream
        )
        assert (error.kind, error.status, error.retry_after) == ("rate_limit", 429, 12.0)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("401 No", "authentication"),
        ("403 No", "authentication"),
        ("404 No", "invalid_request"),
        ("413 Large", "too_large"),
        ("500 Oops", "server_error"),
        ("503 Busy", "overloaded"),
        ("504 Slow", "timeout"),
    ],
)
async def test_a_status_says_what_is_wrong(tongue: Tongue, status: str, kind: str) -> None:
    error = await tongue.failure(tongue.refuses(status, "no"))
    assert (error.kind, error.status) == (kind, int(status[:3]))


async def test_the_key_is_in_no_error_though_the_server_repeats_the_whole_request(tongue: Tongue) -> None:
    async def echo(exchange: Exchange) -> None:
        await tongue.refuses("401 No", exchange.head.decode())(exchange)

    error = await tongue.failure(echo)
    assert error.kind == "authentication"
    assert "0123456789" not in str(error) + repr(error)


async def test_an_error_page_is_named_by_its_title(tongue: Tongue) -> None:
    page = b"<html><head><title>502 Bad Gateway</title></head><body>" + b"x" * 200_000 + b"</body></html>"
    error = await tongue.failure(says(page, status="502 Bad Gateway", content_type="text/html"))
    assert error.kind == "server_error"
    assert "502 Bad Gateway" in str(error)
    assert len(str(error)) < 500


async def test_a_web_page_with_status_200_is_no_answer(tongue: Tongue) -> None:
    page = b"<html><head><title>Please log in</title></head></html>"
    for stream in (True, False):
        error = await tongue.failure(says(page, content_type="text/html"), stream=stream)
        assert error.kind == "server_error"
        assert "text/html" in str(error)
        assert "Please log in" in str(error)


async def test_a_redirect_is_not_followed_and_says_where_it_leads(tongue: Tongue) -> None:
    moved = says(b"", status="308 Moved", extra="location: https://other.example.com/v1")
    async with WireServer([moved]) as server:
        with pytest.raises(DriverError, match=r"other\.example\.com") as caught:
            await tongue.ask(server)
        assert caught.value.kind == "invalid_request"
        assert len(server.exchanges) == 1


async def test_an_error_whose_explanation_never_ends_is_still_that_error(
    tongue: Tongue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "TAIL", 0.05)

    async def script(exchange: Exchange) -> None:
        await exchange.send(head("429 Too Many", "content-length: 1000", "retry-after: 3") + b'{"error"')
        await exchange.gone()

    error = await tongue.failure(script)
    assert (error.kind, error.retry_after) == ("rate_limit", 3.0)


async def test_bytes_that_are_not_what_they_are_said_to_be_are_a_broken_stream(tongue: Tongue) -> None:
    not_gzip = says(b"\x1f\x8bnot gzip", extra="content-encoding: gzip")
    for script in (not_gzip, streams(*tongue.begin, b"data: {oops\n\n", *tongue.last)):
        assert (await tongue.failure(script)).kind == "broken_stream"


async def test_a_server_that_does_not_speak_http_is_a_connection_error(tongue: Tongue) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(b"SSH-2.0-OpenSSH_9.2\r\n")
        exchange.writer.close()

    assert (await tongue.failure(script)).kind == "connection"


# -- too much


async def test_a_body_that_is_too_large_or_unpacks_to_a_huge_one_is_cut_off(
    tongue: Tongue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_BODY", 2**20)
    bomb = says(gzip.compress(b"0" * 2**24), extra="content-encoding: gzip")
    for script in (says(b" " * (2**20 + 1)), bomb):
        error = await tongue.failure(script)
        assert (error.kind, "larger than" in str(error)) == ("broken_stream", True)


async def test_a_stream_that_is_too_large_is_cut_off(tongue: Tongue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_STREAM", 10_000)
    error = await tongue.failure(streams(*tongue.begin, *[tongue.begin[-1]] * 200))
    assert "stream of more than" in str(error)


# -- no connection at all


async def test_a_closed_port_is_a_connection_error(tongue: Tongue) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    driver = tongue.driver(base_url=f"http://127.0.0.1:{port}/v1", api_key="x")
    with pytest.raises(DriverError, match=r"no connection to 127\.0\.0\.1") as caught:
        await driver.reply(request(), silent)
    assert (caught.value.kind, caught.value.retryable) == ("connection", True)
    await driver.close()


async def test_connecting_is_bounded_in_time(tongue: Tongue) -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(4):  # fill the backlog, so that the next handshake gets no answer
        waiting.append(socket.socket())
        waiting[-1].setblocking(False)
        waiting[-1].connect_ex(listener.getsockname())
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    driver = tongue.driver(base_url=address, api_key="x", connect_timeout=0.1, stall_timeout=5)
    try:
        with pytest.raises(DriverError, match=r"no connection to 127\.0\.0\.1 within 0\.1 s") as caught:
            await driver.reply(request(), silent)
        assert caught.value.kind == "timeout"
    finally:
        await driver.close()
        for each in (listener, *waiting):
            each.close()


# -- cancelling


def pool_of(client: httpx2.AsyncClient) -> list[Any]:
    connections: list[Any] = client._transport._pool.connections  # type: ignore[attr-defined]
    return connections


@pytest.mark.parametrize("begun", [True, False], ids=["while streaming", "while waiting"])
async def test_cancelling_closes_the_connection_at_once_and_leaves_nothing_in_the_pool(
    tongue: Tongue, begun: bool
) -> None:
    heard = asyncio.Event()
    script = streams(*tongue.begin, end=False) if begun else Exchange.gone
    async with WireServer([script]) as server, httpx2.AsyncClient() as client:
        driver = tongue.made(server, http=client)
        task = asyncio.create_task(driver.reply(request(), lambda *_: heard.set()))
        async with asyncio.timeout(30):
            waiting: Awaitable[object] = heard.wait() if begun else server.asked.acquire()
            await waiting
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool_of(client) == []
            await server.hang_ups.acquire()


async def test_no_failure_leaves_a_connection_in_the_pool(tongue: Tongue) -> None:
    malformed = streams(*tongue.begin, b"data: oops\n\n", end=False)
    for script in (streams(*tongue.begin, end=False), breaks_off(*tongue.begin), malformed):
        async with WireServer([script]) as server, httpx2.AsyncClient() as client:
            driver = tongue.made(server, http=client, stall_timeout=0.1)
            with pytest.raises(DriverError):
                await driver.reply(request(), silent)
            assert pool_of(client) == []
            async with asyncio.timeout(30):
                await server.hang_ups.acquire()


async def test_an_outer_deadline_is_the_callers_and_not_a_stall(tongue: Tongue) -> None:
    async with WireServer([streams(*tongue.begin, end=False)]) as server:
        driver = tongue.made(server)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await driver.reply(request(), silent)
        await driver.close()


async def test_an_error_of_the_listener_goes_through_and_closes_the_connection(tongue: Tongue) -> None:
    def fail(kind: str, piece: str, index: int) -> None:
        raise TimeoutError("mine")

    async with WireServer([streams(*tongue.begin, end=False)]) as server:
        driver = tongue.made(server)
        with pytest.raises(TimeoutError, match="mine"):
            await driver.reply(request(), fail)
        async with asyncio.timeout(30):
            await server.hang_ups.acquire()
        await driver.close()


# -- keys


@pytest.mark.parametrize("value", [None, "", "  "])
async def test_without_a_key_nothing_is_sent_and_the_variable_is_named(
    tongue: Tongue, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in tongue.driver.credentials:
        monkeypatch.delenv(variable, raising=False)
    if value is not None:
        monkeypatch.setenv(tongue.driver.credentials[0], value)
    async with WireServer([streams(*tongue.events)]) as server:
        driver = tongue.made(server, api_key=None)
        assert driver.encode(request())
        with pytest.raises(MissingCredential, match=tongue.driver.credentials[0]):
            await driver.reply(request(), silent)
        assert server.exchanges == []


async def test_the_key_is_read_at_each_call_from_every_variable_or_a_function_and_may_be_none_at_all(
    tongue: Tongue, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = tongue.driver.credentials
    for variable in variables:
        monkeypatch.delenv(variable, raising=False)
    async with WireServer([streams(*tongue.events)]) as server:
        driver = tongue.made(server, api_key=None)
        for variable in reversed(variables):  # the first one that is named counts before the others
            monkeypatch.setenv(variable, f"of-{variable}\n")
            await driver.reply(request(), silent)
        await driver.close()
        await tongue.ask(server, api_key=lambda: "fetched")
        await tongue.ask(server, api_key="")
        sent = [exchange.headers.get(tongue.key_header) for exchange in server.exchanges]
    keys = [f"of-{variable}" for variable in reversed(variables)] + ["fetched"]
    assert sent == [*[tongue.before_key + key for key in keys], None]


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel", "tab\tbed"])
async def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(
    tongue: Tongue, key: str
) -> None:
    driver = tongue.driver(api_key=key)
    with pytest.raises(MissingCredential) as caught:
        await driver.reply(request(), silent)
    assert key not in str(caught.value)


async def test_a_key_function_that_fails_or_finds_nothing_is_a_missing_credential(tongue: Tongue) -> None:
    def fail() -> str:
        raise OSError("vault token abc")

    for source in (fail, lambda: "", lambda: None):
        driver = tongue.driver(api_key=source)
        with pytest.raises(MissingCredential, match="the function given as api_key") as caught:
            await driver.reply(request(), silent)
        assert "abc" not in str(caught.value)


def test_the_key_the_headers_and_the_options_are_in_no_repr(tongue: Tongue) -> None:
    options = tongue.driver._options_type(extra={"mcp": ["secret-4"]})
    driver = tongue.driver(
        base_url="https://example.com/v1?key=secret-1",
        api_key="secret-2",
        headers={"x-key": "secret-3"},
        options=options,
    )
    assert "secret" not in repr(driver) + repr(driver._credential) + repr(driver._transport)
    assert repr(driver) == f"{tongue.driver.__name__}(https://example.com, vendor={tongue.name!r})"


# -- addresses


@pytest.mark.parametrize(
    "address",
    ["https://me:secret@example.com/v1", "https://secret@example.com", "http://:secret@127.0.0.1:8000/v1"],
)
def test_a_base_url_with_a_user_or_a_password_is_refused_without_showing_it(
    tongue: Tongue, address: str
) -> None:
    with pytest.raises(ConfigError, match="user name or password; pass the key as api_key") as caught:
        tongue.driver(base_url=address)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "example.com/v1",
        "ftp://example.com",
        "https://",
        "http://[::1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:0/v1",
        "http://127.0.0.1:-1",
    ],
)
def test_a_base_url_that_is_none_is_refused(tongue: Tongue, address: str) -> None:
    with pytest.raises(ConfigError, match="base URL"):
        tongue.driver(base_url=address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8000",
        "localhost",
        "models.localhost.",
        "10.1.2.3",
        "192.168.0.7",
        "169.254.169.254",
        "metadata.google.internal",
        "0x7f000001",
        "127.1",
        "2130706433",
        "[::1]:8000",
        "[fd00::1]",
        "[::ffff:10.0.0.1]",
        "0.0.0.0",
    ],
)
def test_a_private_address_is_refused_where_it_is_not_allowed(tongue: Tongue, host: str) -> None:
    public = tongue.driver._options_type(private=False)
    assert tongue.driver(base_url=f"http://{host}/v1").host
    with pytest.raises(ConfigError, match="a private address"):
        tongue.driver(base_url=f"http://{host}/v1", options=public)
    assert tongue.driver(base_url="https://api.example.com/v1", options=public).host == "api.example.com"


async def test_a_public_name_of_a_private_address_is_found_out_before_anything_is_sent(
    tongue: Tongue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with WireServer([streams(*tongue.events)]) as server:
        port = int(server.url.split(":")[2].partition("/")[0])

        async def lookup(*_: object, **__: object) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)
        public = tongue.driver._options_type(private=False)
        driver = tongue.driver(base_url=f"http://models.example.com:{port}/v1", api_key=KEY, options=public)
        with pytest.raises(DriverError, match=r"models\.example\.com leads to a private address") as caught:
            await driver.reply(request(), silent)
        assert (caught.value.kind, server.exchanges) == ("unsupported", [])
        await driver.close()


async def test_a_public_name_is_looked_up_once_and_what_was_looked_at_is_where_the_request_goes(
    tongue: Tongue, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[httpx2.Request] = []
    looked_up: list[object] = []

    async def lookup(host: object, *_: object, **__: object) -> list[Any]:
        looked_up.append(host)
        address = "93.184.216.34" if len(looked_up) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))]

    async def nothing() -> AsyncIterator[bytes]:
        yield b""

    def refuse(asked_for: httpx2.Request) -> httpx2.Response:
        asked.append(asked_for)
        return httpx2.Response(401, content=nothing())

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)
    public = tongue.driver._options_type(private=False)
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(refuse)) as http:
        address = "https://models.example.com:8443/v1"
        driver = tongue.driver(base_url=address, api_key=KEY, options=public, http=http)
        with pytest.raises(DriverError, match=r"models\.example\.com"):
            await driver.reply(request(), silent)
    (sent,) = asked
    assert looked_up == ["models.example.com"]
    assert (sent.url.host, sent.url.port) == ("93.184.216.34", 8443)
    assert sent.headers["host"] == "models.example.com:8443"
    assert sent.extensions["sni_hostname"] == "models.example.com"


async def test_the_address_is_read_from_the_environment(
    tongue: Tongue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with WireServer([streams(*tongue.events)]) as server:
        base = server.url if tongue.base_variable == "OPENAI_BASE_URL" else server.url.removesuffix("/v1")
        monkeypatch.setenv(tongue.base_variable, base)
        driver = tongue.driver(api_key=KEY)
        assert (await driver.reply(request(), silent)).message.text == SAID
        await driver.close()


# -- clients, names, and what it costs to load


async def test_closing_closes_our_client_and_leaves_the_callers_open(tongue: Tongue) -> None:
    async with WireServer([streams(*tongue.events)]) as server, httpx2.AsyncClient() as client:
        lent = tongue.made(server, http=client)
        await lent.reply(request(), silent)
        await lent.close()
        assert not client.is_closed
        own = tongue.made(server)
        await own.reply(request(), silent)
        await own.close()
        await own.close()
        async with asyncio.timeout(30):
            await server.hang_ups.acquire()


async def test_a_model_is_found_by_its_vendors_name(tongue: Tongue) -> None:
    registry = Registry()
    driver, name = registry.driver(f"{tongue.name}/some-model")
    assert (type(driver), name) == (tongue.driver, "some-model")
    await registry.close()


def test_importing_a_driver_brings_no_sdk_and_no_other_driver(tongue: Tongue) -> None:
    module = DRIVERS[tongue.name].partition(":")[0]
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(json.loads(done.stdout))
    others = {dotted.partition(":")[0] for dotted in DRIVERS.values()} - {module}
    assert {"anthropic", "openai", "google", "pydantic", "requests", *others}.isdisjoint(loaded)
