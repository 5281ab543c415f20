"""A refund desk: somebody at another terminal changes an amount, a worker is killed while it pays, the bank pays once.

Everything is real (the processes, the kill, the database) but the model, which is a script. Nothing needs a key.

Prints:

    1. Ann writes. A process of the desk takes care of it, and ends where a person must agree.
       look_up_order: {"order_id":"A7","cents":9900,"customer":"ann@customers.example.com"}
       refund {"order_id":"A7","cents":9900} waits for a person: 99.00 is more than 50

    2. Mia, at another terminal, agrees to less.
       $ holdfast asks
       ask_… · holdfast approve|deny
         refund {"order_id":"A7","cents":9900}
         99.00 is more than 50 · asked by author
         session_… · refund-desk · Ann
       $ holdfast approve ask_… --arguments '{"order_id": "A7", "cents": 4200}' --by mia …
       approved; it goes on when the program that has …

    3. A worker goes on, and is killed (-9) when the bank has booked the money but has not said so.
       the bank's book: ['42.00 for A7']
       Another worker finds the call cut off, and asks the bank again, under the same key:
       refund: [A person changed the arguments of this call. What ran: {"order_id": "A7", "cents": 4200}]
       refund: refunded 42.00, receipt bank-1
       the desk: The money is on its way.
       the bank's book: ['42.00 for A7']

    4. Ann wants the postage, too. The desk may spend 60 on a case.
       refund: Error: The budget 'desk' is used up: 42 of 60 US dollars are used or set aside. The next …
       the desk: I am sorry. I may not do that.
       $ holdfast budget last
       desk  42 of 60 used

    5. Ann wants the rest. That is asked about again, and Mia says no.
       refund {"order_id":"A7","cents":5700} waits for a person: 57.00 is more than 50
       $ holdfast deny last --by mia --reason 'she keeps the kettle'
       denied; it goes on when the program that has …
       refund: Denied: she keeps the kettle. Nothing was run.
       the desk: [This reply was withheld.]
       The guard 'inside' keeps back what the desk was about to say: that is not for customers
       the desk: I am sorry. I may not do that.

    6. The desk may mail customers and nobody else. At the end it gives an account that programs can read.
       mail: Denied: mail goes to customers only. Nothing was run.
       mail: sent
       the desk: {"order_id": "A7", "refunded_cents": 4200, "receipts": ["bank-1"]}
       CaseClosed(order_id='A7', refunded_cents=4200, receipts=['bank-1'])
       the bank's book: ['42.00 for A7']
"""

import asyncio
import json
import shlex
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import msgspec

from holdfast import (
    PAYMENTS,
    Agent,
    AskOpened,
    Budget,
    Config,
    Context,
    Guard,
    PaymentRequest,
    Receipt,
    Request,
    Rule,
    Runtime,
    Session,
    Taint,
    ToolResult,
    tool,
)
from holdfast.drivers.sim import Sim, Step, call, calls, say
from holdfast.events import OutputMessageCompleted, ToolCompleted
from holdfast.facts.guards import GuardDecided

CUSTOMERS = "*@customers.example.com"


# The agent: what it can do, what it may do, and how much.


@tool(effect="pure", labels=("private",))
async def look_up_order(order_id: str) -> dict[str, object]:
    """Look up an order."""
    return {"order_id": order_id, "cents": 9_900, "customer": "ann@customers.example.com"}


@tool(
    effect="idempotent",
    needs=(PAYMENTS,),
    ask=lambda it: it.cents > 5_000 and f"{it.cents / 100:.2f} is more than 50",
)
async def refund(ctx: Context, order_id: str, cents: Annotated[int, msgspec.Meta(gt=0)]) -> str:
    """Refund an order, or a part of it."""
    wanted = PaymentRequest(
        amount=Decimal(cents) / 100, payee=f"the customer of {order_id}", purpose=order_id
    )
    receipt = await ctx.scope[PAYMENTS].pay(wanted)
    return f"refunded {receipt.amount:.2f}, receipt {receipt.id}"


@tool(effect="once", labels=("outbound",))
async def mail(to: str, text: str) -> str:
    """Mail somebody."""
    return "sent"


class CaseClosed(msgspec.Struct):
    """What the desk's books say of a case."""

    order_id: str
    refunded_cents: Annotated[int, msgspec.Meta(ge=0)]
    receipts: list[str]


def script(request: Request) -> Step:
    """In the place of a model. It goes by the transcript alone, so another process goes on with it."""
    wish = [message.text for message in request.messages if message.role == "user"][-1]
    last = request.messages[-1].content[-1]
    if isinstance(last, ToolResult):
        return _after(last, request)
    if "guard" in wish:
        return say("I am sorry. I may not do that.")
    if "broken" in wish:
        return call("look_up_order", order_id="A7")
    if "postage" in wish:
        return call("refund", order_id="A7", cents=3_000)
    if "rest" in wish:
        return call("refund", order_id="A7", cents=5_700)
    text = "Order A7: 42.00 refunded."
    to = ("press@example.org", "ann@customers.example.com")
    return calls(*[("mail", {"to": it, "text": text}) for it in to])


def _after(result: ToolResult, request: Request) -> Step:
    if result.name == "look_up_order":
        return call("refund", order_id="A7", cents=json.loads(result.text)["cents"])
    if request.output is not None:
        return say(json.dumps({"order_id": "A7", "refunded_cents": 4_200, "receipts": ["bank-1"]}))
    if result.status == "ok":
        return say("The money is on its way.")
    why = "Your fraud score is high." if result.status == "denied" else "I may not do that."
    return say(f"I am sorry. {why}")


DESK = Agent(
    "You decide about refunds. Never refund more than the order cost.",
    name="refund-desk",
    model=Sim.rule(script),
    tools=[look_up_order, refund, mail],
    config=Config(
        rules=(
            Rule(id="customers", decision="allow", name="mail", destinations=(CUSTOMERS,)),
            Rule(id="others", decision="deny", name="mail", reason="mail goes to customers only"),
        ),
        taint=Taint(inputs=("untrusted",), trusted=(CUSTOMERS,)),
        guards=(Guard(id="inside", words=("fraud score",), retries=1, reason="that is not for customers"),),
        budgets=(Budget(name="desk", scope="session", quantity="usd", hard=60, unknown_price="free"),),
    ),
)


# The world outside: a bank with a book. The desk's processes lend it to the agent; the agent sees receipts only.


class Bank:
    """Pays, once for each key. A slow one has booked the money long before it says so."""

    def __init__(self, book: Path, *, slow: bool = False) -> None:
        self.book, self.slow = book, slow

    def booked(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.book.read_text().splitlines()] if self.book.exists() else []

    async def pay(self, request: PaymentRequest) -> Receipt:
        keys = [entry["key"] for entry in self.booked()]
        if request.key not in keys:
            keys.append(request.key)
            entry = {"key": request.key, "line": f"{request.amount:.2f} for {request.purpose}"}
            with self.book.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            if self.slow:
                await asyncio.sleep(3_600)
        return Receipt(id=f"bank-{keys.index(request.key) + 1}", amount=request.amount)


def runtime_in(place: Path, *, slow: bool = False) -> Runtime:
    return Runtime(
        place / "desk.db", agents=[DESK], services={PAYMENTS: Bank(place / "book.jsonl", slow=slow)}
    )


# The processes.


async def clerk(place: Path, words: str) -> None:
    """Take a customer's words, and go home when there is nothing to do but wait."""
    async with runtime_in(place) as runtime:
        known = await runtime.sessions()
        session = await (runtime.open(known[0].session_id) if known else runtime.session(DESK, title="Ann"))
        since = session.state.sequence
        await session.run(words)
        await tell(session, since)


async def worker(place: Path, bank: str) -> None:
    """Go on with whatever is due."""
    async with runtime_in(place, slow=bank == "slow") as runtime:
        (head,) = await runtime.sessions()
        for session in await runtime.recover():
            if (turn := session.turn) is not None:
                await turn
            await tell(session, head.sequence)


async def books(place: Path) -> None:
    """Ask for something that a program can read."""
    async with runtime_in(place) as runtime:
        (head,) = await runtime.sessions()
        session = await runtime.open(head.session_id)
        result = await session.run("Confirm it by mail, and close the case.", output=CaseClosed)
        await tell(session, head.sequence)
        print(f"   {result.output}")


async def tell(session: Session, since: int) -> None:
    """What is on the log that was not there before."""
    for event in await session.events(after=since):
        match event.data:
            case ToolCompleted(result=result):
                print(*[f"   {result.name}: {line}" for line in result.text.splitlines()], sep="\n")
            case AskOpened(tool=name, arguments=arguments, reason=reason):
                print(f"   {name} {arguments} waits for a person: {reason}")
            case GuardDecided(guard=name, reason=reason):
                print(f"   The guard {name!r} keeps back what the desk was about to say: {reason}")
            case OutputMessageCompleted(message=message) if message.text:
                print(f"   the desk: {message.text}")


# The story.


class Town:
    """Where the processes are started from: a folder, and a terminal in it."""

    def __init__(self, place: Path) -> None:
        self.place, self.bank = place, Bank(place / "book.jsonl")

    def start(self, role: str, *words: str) -> subprocess.Popen[str]:
        """A process of the desk."""
        command = [sys.executable, __file__, role, str(self.place), *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def run(self, role: str, *words: str) -> None:
        """A process of the desk, until it ends; what it printed."""
        process = self.start(role, *words)
        print(process.communicate()[0], end="")
        if process.returncode:
            sys.exit(f"{role} ended with {process.returncode}")

    def terminal(self, *words: str) -> str:
        """The command line, as somebody types it who has none of the desk's tools; what it wrote."""
        print("   $ holdfast", shlex.join(words))
        command = [sys.executable, "-m", "holdfast.cli", *words, "--db", "desk.db"]
        done = subprocess.run(command, cwd=self.place, capture_output=True, text=True, check=False)
        for line in (done.stdout + done.stderr).splitlines():
            print("  ", line)
        return done.stdout

    def open_ask(self) -> str:
        """The id that `holdfast asks` shows first."""
        return self.terminal("asks").split()[0]

    def kill_while_paying(self) -> None:
        """Kill a worker at the moment when the bank has booked the money, and has not said so."""
        process = self.start("worker", "slow")
        while not self.bank.booked() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def show_book(self) -> None:
        print("   the bank's book:", [entry["line"] for entry in self.bank.booked()])


def main(town: Town) -> None:
    """Ann writes, Mia decides."""
    print("1. Ann writes. A process of the desk takes care of it, and ends where a person must agree.")
    town.run("clerk", "My kettle (order A7) came broken. I want my money back.")

    print("\n2. Mia, at another terminal, agrees to less.")
    less = '{"order_id": "A7", "cents": 4200}'
    town.terminal(
        "approve", town.open_ask(), "--arguments", less, "--by", "mia", "--reason", "it still boils"
    )

    print("\n3. A worker goes on, and is killed (-9) when the bank has booked the money but has not said so.")
    town.kill_while_paying()
    town.show_book()
    print("   Another worker finds the call cut off, and asks the bank again, under the same key:")
    town.run("worker", "quick")
    town.show_book()

    print("\n4. Ann wants the postage, too. The desk may spend 60 on a case.")
    town.run("clerk", "And the postage of 30.00, please.")
    town.terminal("budget", "last")

    print("\n5. Ann wants the rest. That is asked about again, and Mia says no.")
    town.run("clerk", "Then I want the rest, 57.00.")
    town.terminal("deny", "last", "--by", "mia", "--reason", "she keeps the kettle")
    town.run("worker", "quick")

    print(
        "\n6. The desk may mail customers and nobody else. At the end it gives an account that programs can read."
    )
    town.run("books")
    town.show_book()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["clerk", folder, words]:
            asyncio.run(clerk(Path(folder), words))
        case ["worker", folder, bank]:
            asyncio.run(worker(Path(folder), bank))
        case ["books", folder]:
            asyncio.run(books(Path(folder)))
        case _:
            with TemporaryDirectory() as folder:
                main(Town(Path(folder)))
