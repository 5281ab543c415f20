"""Blocking code gets the same thing: same results, same errors, nothing left behind."""

import asyncio
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec import Struct

import holdfast
from holdfast import Agent, Budget, Config, Event, TextDelta, sync, tool
from holdfast.driver import Emit, Reply, Request
from holdfast.drivers.sim import Sim, Step, call, say
from holdfast.errors import (
    ConfigError,
    ForeignFile,
    InputRejected,
    RuntimeClosed,
    StoreClosed,
    UnknownAsk,
    UnknownCall,
    UnknownSession,
    UsageError,
)
from holdfast.ids import new_id
from tests.turn.scenes import agent_of, assert_sound, kinds


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


ADD = (call("add", a=2, b=2), say("It is 4."))


class Gated(Sim):
    """A model that says nothing before its gate is open."""

    def __init__(self, choose: Callable[[Request], Step | str]) -> None:
        super().__init__(choose)
        self.gate = threading.Event()

    async def reply(self, request: Request, emit: Emit) -> Reply:
        while not self.gate.is_set():  # noqa: ASYNC110 - it is opened by another thread
            await asyncio.sleep(0.001)
        return await super().reply(request, emit)


def gated(*steps: str) -> tuple[Agent, threading.Event]:
    model = Gated(lambda request: steps[sum(it.role == "assistant" for it in request.messages)])
    return Agent("You help.", model=model), model.gate


def test_a_turn_runs_to_its_end() -> None:
    with sync.Runtime() as runtime:
        session = runtime.session(agent_of(*ADD, tools=[add]))
        result = session.run("2 + 2?")
        assert (result.status, result.text) == ("completed", "It is 4.")
        assert [message.role for message in session.messages()] == ["user", "assistant", "tool", "assistant"]
        assert_sound(session.events())
        assert session.events(after=7) == session.events()[7:]
        assert len(session.events(limit=3)) == 3


def test_a_turn_can_be_watched() -> None:
    with sync.Runtime() as runtime:
        agent, gate = gated("some words here")
        turn = runtime.session(agent).send("go")
        coming = iter(turn)
        items = [next(coming)]
        gate.set()
        items += coming
        assert [item.text for item in items if isinstance(item, TextDelta)] == ["some ", "words ", "here"]
        assert items[-1].type == "turn.completed"  # type: ignore[union-attr]
        assert turn.result().text == "some words here"


def test_watching_can_end_early() -> None:
    with sync.Runtime() as runtime:
        turn = runtime.session(agent_of(say("a " * 50, pace=0.001))).send("go")
        for item in turn:
            if isinstance(item, TextDelta):
                break
        assert turn.result().status == "completed"


def test_watching_may_outlive_the_runtime() -> None:
    with sync.Runtime(drain=0) as runtime:
        turn = runtime.session(agent_of(say("a", delay=60))).send("go")
        items = iter(turn)
        assert isinstance(next(items), Event)
    del items
    with pytest.raises(RuntimeClosed):
        turn.result()


def test_a_turn_can_be_cancelled() -> None:
    with sync.Runtime() as runtime:
        session = runtime.session(agent_of(say("a", delay=60)))
        turn = session.send("go", key="a")
        assert session.send("go", key="a").id == turn.id
        assert turn.cancel("enough").status == "cancelled"
        assert kinds(session.events())[-1] == "turn.cancelled"


def test_an_ask_can_be_answered() -> None:
    @tool(ask=True)
    def pay(cents: int) -> str:
        """Pay."""
        return f"paid {cents}"

    with sync.Runtime() as runtime:
        session = runtime.session(
            agent_of(call("pay", cents=1), call("pay", cents=2), say("done"), tools=[pay])
        )
        turn = session.send("go")
        session.approve(turn.result().asks[0].ask_id, by="ann")
        session.deny(turn.result().asks[0].ask_id, by="ann", reason="enough")
        assert turn.result().text == "done"
        answers = [message.text for message in session.messages() if message.role == "tool"]
        assert answers == ["paid 1", "Denied: enough. Nothing was run."]


def test_a_session_can_be_opened_again(tmp_path: Path) -> None:
    agent = agent_of(*ADD, say("And that?"), tools=[add])
    with sync.Runtime(tmp_path / "log.db") as runtime:
        session = runtime.session(agent, title="sums")
        session.run("2 + 2?")
    with sync.Runtime(tmp_path / "log.db", agents=[agent]) as runtime:
        assert [head.session_id for head in runtime.sessions()] == [session.id]
        again = runtime.open(session.id)
        assert [message.text for message in again.messages()] == ["2 + 2?", "", "4", "It is 4."]
        assert runtime.wait(again.inner.inspect("more")).request.messages[-1].text == "more"
        assert again.run("more").text == "And that?"


def test_a_turn_can_be_steered_and_found_again_by_its_id() -> None:
    with sync.Runtime() as runtime:
        agent, gate = gated("first", "second")
        session = runtime.session(agent)
        turn = session.send("go")
        assert session.steer("and that").id == turn.id
        assert session.turn is not None
        assert session.turn.id == turn.id
        assert turn.asks == ()
        gate.set()
        assert session.handle(turn.id).result().text == "second"
        assert session.turn is None
        assert session.resume() is None
        session.update(title="later")
        assert session.inspect("more").request.messages[-1].text == "more"
        assert session.message_count == 4
        assert [message.text for message in session.messages(before=2, limit=1)] == ["first"]


def test_a_call_in_doubt_can_be_resolved() -> None:
    @tool(effect="once")
    async def pay() -> str:
        """Pay."""
        if not paid:
            paid.append(1)
            begun.set()
            await asyncio.sleep(60)
        return "paid"

    paid: list[int] = []
    begun = threading.Event()
    with sync.Runtime() as runtime:
        session = runtime.session(agent_of(call("pay"), call("pay"), say("done"), tools=[pay]))
        turn = session.send("go")
        assert begun.wait(60)
        (doubt,) = turn.cancel().in_doubt
        assert session.in_doubt == (doubt,)
        again = session.resolve(doubt.call_id, rerun=True, by="ann")
        assert again is not None
        assert again.result().status == "completed"
        assert session.in_doubt == ()
        with pytest.raises(UnknownCall):
            session.resolve(doubt.call_id, result="paid", by="ann")


def test_a_log_can_be_followed() -> None:
    with sync.Runtime() as runtime:
        session = runtime.session(agent_of(say("done")))
        session.run("go")
        following = session.follow(after=2)
        assert [next(following).type for _ in range(3)] == [
            "turn.started",
            "output.message.completed",
            "turn.completed",
        ]
        following.close()  # type: ignore[attr-defined]


def test_what_is_owed_can_be_gone_on_with(tmp_path: Path) -> None:
    agent, gate = gated("done")
    with sync.Runtime(tmp_path / "log.db", drain=0) as runtime:
        runtime.session(agent).send("go")
    gate.set()
    with sync.Runtime(tmp_path / "log.db", agents=[agent]) as runtime:
        (session,) = runtime.recover()
        assert session.turn is not None
        assert session.turn.result().text == "done"


def test_anything_else_can_be_waited_for() -> None:
    with sync.Runtime() as runtime:
        session = runtime.session(agent_of(say("done")))
        runtime.wait(session.inner.files.write("/a.txt", b"hello"))
        assert runtime.wait(session.inner.files.read("/a.txt")) == b"hello"
        runtime.wait(session.inner.update(title="later"))
        assert session.inner.state.title == "later"


def test_errors_are_the_same_ones() -> None:
    with sync.Runtime() as runtime:
        with pytest.raises(ConfigError):
            runtime.session(Agent(model="nobody/nothing"))
        with pytest.raises(UnknownSession):
            runtime.open(new_id("session"))
        session = runtime.session(agent_of(say("done")))
        with pytest.raises(InputRejected):
            session.send("")
        with pytest.raises(UnknownAsk):
            session.approve("ask_a", by="ann")
        assert session.run("go").status == "completed"


def test_outside_the_block_it_is_closed() -> None:
    runtime = sync.Runtime()
    with pytest.raises(RuntimeClosed):
        runtime.sessions()
    with runtime:
        session = runtime.session(agent_of(say("done")))
        turn = session.send("go")
        turn.result()
    for late in (runtime.sessions, session.messages, turn.result, lambda: session.run("more")):
        with pytest.raises(RuntimeClosed):
            late()


def test_a_fork_is_told_that_it_has_no_runtime() -> None:
    with sync.Runtime() as runtime:
        session = runtime.session(agent_of(say("done")))
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # forking with threads: the misuse this is about
            child = os.fork()
        if not child:
            with suppress(BaseException):
                signal.alarm(20)  # rather than to hang for good
                os._exit(0 if refused_in_fork(runtime, session) else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert session.run("go").text == "done"


def refused_in_fork(runtime: sync.Runtime, session: sync.Session) -> bool:
    """Whether each use, and the end of the block, are refused in words that name the fork."""
    reasons = []
    for use in (runtime.sessions, lambda: session.run("go"), lambda: runtime.__exit__(None, None, None)):
        try:
            use()
        except StoreClosed as error:
            reasons.append(str(error))
    return len(reasons) == 3 and all("fork" in reason for reason in reasons)


def test_a_closed_one_says_how_to_open_it() -> None:
    with pytest.raises(RuntimeClosed, match=r"with sync\.Runtime"):
        sync.Runtime().sessions()


def test_what_is_shown_at_a_prompt_names_it() -> None:
    with sync.Runtime() as runtime:
        session = runtime.session(agent_of(say("done")))
        turn = session.send("go")
        turn.result()
        assert (repr(session), repr(turn)) == (repr(session.inner), repr(turn.inner))
    assert session.id in repr(session)
    assert turn.id in repr(turn)


def test_a_store_that_cannot_be_opened_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_text("this is no database, whatever its name says\n" * 100)
    with pytest.raises(ForeignFile), sync.Runtime(tmp_path / "log.db"):
        pytest.fail("entered")


def test_an_error_in_the_block_stops_what_runs() -> None:
    def fail() -> None:
        with sync.Runtime() as runtime:
            runtime.session(agent_of(say("a", delay=60))).send("go")
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        fail()


def test_it_works_from_several_threads() -> None:
    texts: list[str] = []
    with sync.Runtime() as runtime:

        def work(number: int) -> None:
            texts.append(runtime.session(agent_of(say(f"answer {number}"))).run("go").text)

        threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(texts) == [f"answer {number}" for number in range(8)]


def test_a_plain_tool_may_use_the_runtime_and_an_async_one_is_told_not_to() -> None:
    """A plain `def` runs in a thread of its own and may block; a coroutine runs on the very loop it would wait for."""
    with sync.Runtime() as runtime:

        @tool
        def ask_a_friend() -> str:
            """Ask."""
            return runtime.session(agent_of(say("a friend's answer"))).run("go").text

        @tool
        async def ask_myself() -> str:
            """Ask."""
            try:
                return runtime.session(agent_of(say("never"))).run("go").text
            except UsageError as error:
                return str(error)

        steps = (call("ask_a_friend"), call("ask_myself"), say("done"))
        session = runtime.session(agent_of(*steps, tools=[ask_a_friend, ask_myself]))
        session.run("go")
        friend, myself = [message.text for message in session.messages() if message.role == "tool"]
        assert friend == "a friend's answer"
        assert "would wait for itself" in myself


async def test_it_may_be_used_where_a_loop_already_runs() -> None:
    with sync.Runtime() as runtime:
        assert runtime.session(agent_of(say("done"))).run("go").text == "done"
    await asyncio.sleep(0)


def test_whatever_can_be_asked_of_a_session_can_be_asked_here() -> None:
    for inner, here in (
        (holdfast.Runtime, sync.Runtime),
        (holdfast.Session, sync.Session),
        (holdfast.Turn, sync.Turn),
        (holdfast.Subscription, sync.Subscription),
    ):
        missing = {name for name in dir(inner) if not name.startswith("_")} - set(dir(here))
        assert missing <= {
            *(
                "close",
                "drive",
                "work",
                "stragglers",
            ),  # its block closes a runtime; workers have a loop of their own
            *("id", "state", "files"),  # an attribute; `inner` has the others
            *("open", "aclose", "fail"),
        }, here


def test_budgets_are_seen_and_raised() -> None:
    budget = Budget(scope="session", quantity="model_calls", hard=1, on_exceeded="wait")
    agent = Agent("x", model=Sim.always(say("done")), config=Config(budgets=(budget,)))
    with sync.Runtime() as runtime:
        session = runtime.session(agent)
        assert session.run("one").status == "completed"
        (seen,) = session.budgets()
        assert seen.used == 1
        turn = session.send("two")
        assert turn.result().status == "waiting"
        session.raise_budget(seen.name, 1, by="ann")
        assert turn.result().status == turn.status == "completed"
        assert runtime.wait(runtime.accounts.all()) == []


class Count(Struct):
    """A typed answer."""

    numbers: list[int]
    unit: str


def test_a_typed_answer_is_seen_while_it_is_written_and_a_subscription_can_be_closed() -> None:
    words = '{"numbers": [1, 2], "unit": "cm"}'
    with sync.Runtime() as runtime:
        agent, gate = gated(words)
        session = runtime.session(agent)
        turn = session.send("count", output=Count)
        assert turn.status == "running"
        gate.set()
        assert list(turn.partials())[-1] == {"numbers": [1, 2], "unit": "cm"}
        assert turn.result().output == Count(numbers=[1, 2], unit="cm")
        watching = runtime.subscribe(session)
        assert isinstance(next(iter(watching)), Event)
        watching.close()
        assert list(watching) == []
