"""Files that live in a session's log."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import UnknownBlob, WorkspaceError
from holdfast.events import Fact, FileDeleted, FileWritten
from holdfast.services import FILES, PerCall, Scope
from holdfast.store import digest_of
from holdfast.workspace.log_files import MAX_INLINE_BYTES, LogFiles
from tests.workspace.bench import Bench


async def code_of(awaitable: object) -> str:
    with pytest.raises(WorkspaceError) as refused:
        await awaitable  # type: ignore[misc]
    return refused.value.code


async def test_small_text_stands_in_the_fact() -> None:
    bench = Bench()
    await bench.files().write("/a", "x€".encode())
    (fact,) = bench.facts
    assert fact == FileWritten(path="/a", size=4, digest=digest_of("x€".encode()), text="x€")
    assert bench.blobs == {}


async def test_an_empty_file_is_a_file() -> None:
    bench = Bench()
    await bench.files().write("/a", b"")
    assert await bench.files().read("/a") == b""
    assert bench.blobs == {}


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a\0b", b"x" * (MAX_INLINE_BYTES + 1), b"y" * 300_000])
async def test_other_content_is_a_blob_before_it_is_a_fact(data: bytes) -> None:
    bench = Bench()
    order: list[str] = []

    async def put_blob(content: bytes) -> str:
        order.append("blob")
        return await bench.put_blob(content)

    async def record(*facts: Fact) -> None:
        order.append("fact")
        await bench.record(*facts)

    files = LogFiles(
        index=lambda: bench.state.files, record=record, put_blob=put_blob, get_blob=bench.get_blob
    )
    await files.write("/a", data)
    (fact,) = bench.facts
    assert order == ["blob", "fact"]
    assert isinstance(fact, FileWritten)
    assert fact.text is None
    assert fact.blob is not None
    assert (fact.blob.digest, fact.blob.size) == (digest_of(data), len(data))
    assert await files.read("/a") == data


async def test_text_of_exactly_the_limit_needs_no_blob() -> None:
    bench = Bench()
    await bench.files().write("/a", b"x" * MAX_INLINE_BYTES)
    assert bench.blobs == {}


async def test_a_lost_blob_is_the_stores_failure_not_the_models() -> None:
    bench = Bench()
    await bench.files().write("/a", b"\xff")
    bench.blobs.clear()
    with pytest.raises(UnknownBlob):
        await bench.files().read("/a")


async def test_a_refused_write_keeps_nothing() -> None:
    bench = Bench()
    files = bench.files(max_file_bytes=50_000, quota_bytes=60_000)
    await files.write("/a", b"\xff" * 40_000)
    blobs, facts = dict(bench.blobs), list(bench.facts)
    for path, data in (
        ("/a/x", b"\xfe" * 9_000),
        ("/../x", b"\xfe"),
        ("/b", b"\xfe" * 50_001),
        ("/b", b"\xfe" * 20_001),
        ("/.hooks/x", b"\xfe" * 9_000),
    ):
        await code_of(files.write(path, data))
    await code_of(files.write("/a", b"\xfe" * 9_000, expect=""))
    assert bench.blobs == blobs
    assert bench.facts == facts


async def test_one_session_sees_nothing_of_another() -> None:
    one, other = Bench(), Bench()
    other.blobs = one.blobs
    await one.files().write("/secret", b"\xff")
    assert await code_of(other.files().read("/secret")) == "not-found"
    assert await other.files().list(recursive=True) == []


async def test_the_quota_holds_to_the_byte_among_eight_writers() -> None:
    bench = Bench()
    files = bench.files(quota_bytes=100)

    async def grow(name: str) -> list[str]:
        codes = []
        for size in range(1, 30):
            try:
                await files.write(name, b"x" * size)
            except WorkspaceError as refused:
                codes.append(refused.code)
        return codes

    codes = await asyncio.gather(*[grow(f"/{n}") for n in range(8)])
    assert sum([fact.size for fact in bench.state.files.values()]) == 100
    assert {code for one in codes for code in one} == {"quota-exceeded"}


async def test_a_smaller_file_fits_into_a_full_quota() -> None:
    files = Bench().files(quota_bytes=10)
    await files.write("/a", b"x" * 10)
    await files.write("/a", b"y" * 10)
    await files.write("/a", b"y" * 3)
    await files.write("/b", b"z" * 7)
    assert await code_of(files.write("/b", b"z" * 8)) == "quota-exceeded"


async def test_the_quota_counts_bytes_of_content() -> None:
    files = Bench().files(quota_bytes=3)
    assert (await files.write("/a", b"\0\xff\0")).size == 3


async def test_what_waits_in_the_outbox_counts_towards_the_quota() -> None:
    bench = Bench()
    await bench.files().write("/a", b"1234")
    outbox: list[Fact] = []
    call = bench.files(quota_bytes=10).for_call("call_1", outbox)
    await call.write("/b", b"123456")
    assert await code_of(call.write("/c", b"1")) == "quota-exceeded"
    await call.delete("/a")
    await call.write("/c", b"1234")
    assert len(outbox) == 3


async def test_a_calls_writes_wait_in_its_outbox() -> None:
    bench = Bench()
    files = bench.files()
    await files.write("/old", b"old")
    outbox: list[Fact] = []
    call = files.for_call("call_1", outbox)
    await call.write("/new", b"new")
    await call.write("/old", b"changed")
    assert await call.read("/new") == b"new"
    assert [info.path for info in await call.list()] == ["/new", "/old"]
    assert await code_of(files.read("/new")) == "not-found"
    assert await files.read("/old") == b"old"
    assert await code_of(files.for_call("call_2", []).read("/new")) == "not-found"
    assert [(fact.path, fact.call_id) for fact in outbox if isinstance(fact, FileWritten)] == [
        ("/new", "call_1"),
        ("/old", "call_1"),
    ]
    await bench.record(*outbox)
    assert await files.read("/new") == b"new"
    assert await files.read("/old") == b"changed"


async def test_an_outbox_that_is_dropped_leaves_no_trace() -> None:
    bench = Bench()
    files = bench.files()
    await files.write("/a", b"1")
    call = files.for_call("call_1", [])
    await call.write("/a", b"2")
    await call.delete("/a")
    assert await files.read("/a") == b"1"
    assert len(bench.facts) == 1


async def test_a_call_sees_its_own_deletions() -> None:
    bench = Bench()
    files = bench.files()
    await files.write("/d/a", b"1")
    await files.write("/d/b", b"1")
    outbox: list[Fact] = []
    call = files.for_call("call_1", outbox)
    assert await call.delete("/d", recursive=True)
    assert await call.list() == []
    await call.write("/d", b"now a file")
    assert await call.read("/d") == b"now a file"
    assert [type(fact) for fact in outbox] == [FileDeleted, FileDeleted, FileWritten]
    await bench.record(*outbox)
    assert await files.read("/d") == b"now a file"


async def test_two_views_of_one_call_are_one_view() -> None:
    bench = Bench()
    scope = Scope({FILES: bench.files()}).for_call("call_1", [])  # type: ignore[dict-item]
    await scope[FILES].write("/a", b"1")
    assert await scope[FILES].read("/a") == b"1"
    assert bench.facts == []


async def test_compare_and_set_looks_at_the_outbox() -> None:
    bench = Bench()
    call = bench.files().for_call("call_1", [])
    first = await call.write("/a", b"1", expect="")
    assert await code_of(call.write("/a", b"2", expect="")) == "conflict"
    await call.write("/a", b"2", expect=first.digest)
    assert await call.read("/a") == b"2"


async def test_other_facts_in_the_outbox_are_left_alone() -> None:
    bench = Bench()
    outbox: list[Fact] = [Fact()]
    call = bench.files().for_call("call_1", outbox)
    await call.write("/a", b"1")
    assert len(outbox) == 2
    assert await call.read("/a") == b"1"


def test_log_files_are_a_service_per_call() -> None:
    assert isinstance(Bench().files(), PerCall)


async def test_a_seeded_file_can_be_read_only() -> None:
    bench = Bench()
    files = bench.files()
    assert await files.seed("/ro/a", b"1", read_only=True)
    await files.write("/ro/b", b"2")
    assert (await files.stat("/ro/a")).read_only
    assert await code_of(files.write("/ro/a", b"2")) == "read-only"
    assert await code_of(files.delete("/ro/a")) == "read-only"
    assert await code_of(files.delete("/ro", recursive=True)) == "read-only"
    assert await files.read("/ro/b") == b"2"


async def test_seeding_again_keeps_what_the_session_made_of_the_file() -> None:
    bench = Bench()
    files = bench.files()
    assert await files.seed("/a", b"seed")
    await files.write("/a", b"edited")
    assert await files.seed("/a", b"seed") is False
    assert await files.read("/a") == b"edited"


async def test_the_runtime_seeds_where_tools_may_not_write() -> None:
    files = Bench().files()
    assert await files.seed("/.hooks/check.json", b"{}")
    assert await files.read("/.hooks/check.json") == b"{}"
    assert await code_of(files.delete("/.hooks", recursive=True)) == "reserved"


async def test_a_recursive_delete_is_one_append() -> None:
    bench = Bench()
    appends: list[int] = []

    async def record(*facts: Fact) -> None:
        appends.append(len(facts))
        await bench.record(*facts)

    files = LogFiles(
        index=lambda: bench.state.files, record=record, put_blob=bench.put_blob, get_blob=bench.get_blob
    )
    for name in "abc":
        await files.write(f"/d/{name}", b"")
    await files.delete("/d", recursive=True)
    await files.delete("/d", recursive=True)
    assert appends == [1, 1, 1, 3]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.binary(max_size=5)), max_size=12))
def test_the_files_are_the_fold_of_their_facts(steps: list[tuple[str, bytes | None]]) -> None:
    async def carry_out() -> None:
        bench, plain = Bench(), dict[str, bytes]()
        files = bench.files()
        for name, data in steps:
            if data is None:
                assert await files.delete(name) is (plain.pop(f"/{name}", None) is not None)
            else:
                await files.write(name, data)
                plain[f"/{name}"] = data
        assert {info.path: await files.read(info.path) for info in await files.list()} == plain
        rebuilt = Bench()
        rebuilt.blobs = bench.blobs
        await rebuilt.record(*bench.facts)
        assert rebuilt.state.files == bench.state.files

    asyncio.run(carry_out())
