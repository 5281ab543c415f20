"""The catalogue: how much each model takes and gives, what it can do, and what it costs.

    find("anthropic/claude-sonnet-5")                      what is known of a model, or None
    cost(reply.usage, info, datetime.now(UTC))             in US dollars, or None: a cost is never guessed

It is a file in this package, made by `scripts/make_catalogue.py` before a release and read when it is first asked.
Prices of models that are not in it, or other prices than it has, are given to a `Registry(models=...)`.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal
from functools import lru_cache, partial

import msgspec
from msgspec import Struct, structs

from holdfast.driver import Cost, Price, Reply
from holdfast.errors import ConfigError
from holdfast.messages import Native, Usage

EXACT = Context(prec=60)
"""More digits than any sum of costs has, whatever context the program around us has set."""

ZERO = Decimal(0)

_VERSION = r"(?:-latest|[-@]\d{8}|-\d{4}-\d\d-\d\d|-\d{3})?"
"""What may stand behind the name of a model that is the same."""

LONGEST = 200
"""Characters of a name that is looked up; a server may say that anything has answered."""


class Prices(Struct, frozen=True, kw_only=False, array_like=True, gc=False):
    """What a million tokens cost, in US dollars, and when: each a `Decimal`, or None where it is not known.

    Cached tokens are charged at their own price and no other. Raises `ConfigError` for a price that is not exact.
    """

    input: Decimal | None = None
    """For each input token that was neither read from a cache nor written to one."""
    output: Decimal | None = None
    """Reasoning included."""
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    """For what is to be kept for an hour. Only known: a `Usage` does not tell these tokens apart."""
    above: int | None = None
    """They are for requests with more input tokens than this."""
    since: date | None = None
    """They are for this day (UTC) and later."""
    hours: tuple[time, time] | None = None
    """They are for the time of day (UTC) from the first on and before the second, which may be on the next day."""

    def __post_init__(self) -> None:
        for price in (self.input, self.output, self.cache_read, self.cache_write, self.cache_write_1h):
            if price is not None and not (_is_exact(price) and price >= 0):
                raise ConfigError(
                    f"a price is {price!r}; give US dollars for a million tokens as an exact number, not below zero, "
                    'such as Decimal("0.15")'
                )


def _is_exact(price: object) -> bool:
    return isinstance(price, int) or (isinstance(price, Decimal) and price.is_finite())


class ModelInfo(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What is known of a model. What is None is not known."""

    name: str = ""
    """As the price list calls it."""
    context_window: int | None = None
    """Tokens it can take in at most."""
    output_limit: int | None = None
    """Tokens it can give at most, reasoning included."""
    images: bool | None = None
    """Whether it can be shown images."""
    documents: bool | None = None
    """Whether it can be shown documents: PDF at least."""
    tools: bool | None = None
    """Whether it can ask for tools."""
    structured_output: bool | None = None
    """Whether its provider holds its answers to a schema."""
    reasoning: bool | None = None
    """Whether it reasons before it answers, or can be told to."""
    prices: tuple[Prices, ...] = ()
    """The last of which that applies to a request counts for it. Empty: not known."""
    price_date: date | None = None
    """Of which day the prices are."""


def find(model: str, provider_model: str = "", host: str = "") -> ModelInfo | None:
    """What the catalogue knows of a model, or None.

    `model` is a name such as `openai/gpt-5`. Without a vendor it is looked up at Anthropic, OpenAI and Google. What the
    provider says has answered (`provider_model`) counts before what was asked for. With `host`, where the request goes,
    that decides whose prices they are, and not the vendor: an unknown host has none.
    """
    vendor, slash, name = model.partition("/")
    book = _book()
    providers: tuple[str, ...] = (book.hosts.get(host.lower(), ""),)
    if not host:
        providers = (book.vendors.get(vendor, ""),) if slash else ("anthropic", "openai", "google")
    for wanted in filter(None, (provider_model, name if slash else model)):
        for provider in providers:
            if len(wanted) <= LONGEST and (found := _listed(provider, wanted.lower())):
                return found
    return None


def cost(usage: Usage, info: ModelInfo, at: datetime) -> Cost | None:
    """What this usage costs at this instant; None when a price that it takes is not known, or the usage is not.

    Exact: no digit is rounded.
    """
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    counts = (
        usage.input_tokens - cached,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
    )
    prices = _applying(info.prices, usage.input_tokens, at)
    if prices is None or min(counts) < 0 or not any(counts):
        return None
    amount = ZERO
    given = (prices.input, prices.output, prices.cache_read, prices.cache_write)
    for count, price in zip(counts, given, strict=True):
        if count and price is None:
            return None
        if count and price is not None:
            amount = EXACT.add(amount, EXACT.multiply(price, count))
    return Cost(amount=EXACT.scaleb(amount, -6), price_date=info.price_date)


def total(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    """Both together; None when either is not known."""
    return None if one is None or other is None else EXACT.add(one, other)


def pricing(model: str, host: str = "", own: ModelInfo | None = None) -> Price:
    """How replies of this model are priced: by `own` where that has prices, else by the catalogue. See `find`."""
    return partial(_price, model, host, own)


def known(model: str, host: str = "", own: ModelInfo | None = None) -> ModelInfo | None:
    """What is known of this model, by `own` where it says so, else by the catalogue. See `find`."""
    info = find(model, "", host)
    if own is None or info is None:
        return own or info
    told = {name: value for name, value in structs.asdict(own).items() if value not in (None, "", ())}
    return structs.replace(info, **told)


def window(model: str, host: str = "", own: ModelInfo | None = None) -> int | None:
    """Tokens that this model can take in at most, by `own` where it says so, else by the catalogue. See `find`."""
    info = known(model, host, own)
    return info.context_window if info is not None else None


def _price(model: str, host: str, own: ModelInfo | None, reply: Reply, at: datetime) -> Cost | None:
    if not reply.usage.input_tokens and not reply.usage.output_tokens:
        return None
    if any(isinstance(part, Native) for part in reply.message.content):
        return None  # a tool that ran at the provider has a price of its own
    info = own if own is not None and own.prices else find(model, reply.model, host)
    return cost(reply.usage, info, at) if info is not None else None


def _applying(prices: tuple[Prices, ...], input_tokens: int, at: datetime) -> Prices | None:
    """The last of these prices that is for such a request at this instant."""
    for it in reversed(prices):
        enough = it.above is None or input_tokens > it.above
        if enough and (it.since is None or at.astimezone(UTC).date() >= it.since) and _within(it.hours, at):
            return it
    return None


def _within(hours: tuple[time, time] | None, at: datetime) -> bool:
    if hours is None:
        return True
    start, end = (it.replace(tzinfo=None) for it in hours)
    now = at.astimezone(UTC).time()
    return start <= now < end if start <= end else now >= start or now < end


class _Entry(Struct, frozen=True, array_like=True, gc=False):
    """One model as the file has it."""

    name: str
    match: tuple[str | tuple[str, ...], ...]
    """Tests of which one, or each of a group, must pass."""
    context_window: int | None = None
    prices: tuple[Prices, ...] = ()


class _Facts(Struct, frozen=True, array_like=True, gc=False):
    """What some models can do, as the file has it."""

    names: str
    """A pattern for the whole of a name."""
    output_limit: int | None = None
    images: bool | None = None
    documents: bool | None = None
    tools: bool | None = None
    structured_output: bool | None = None
    reasoning: bool | None = None
    context_window: int | None = None


class _Book(Struct, frozen=True):
    """The file. Each provider's models are read when one of them is asked for."""

    date: date
    source: str
    hosts: dict[str, str]
    vendors: dict[str, str]
    providers: dict[str, msgspec.Raw]
    facts: dict[str, tuple[_Facts, ...]]


@lru_cache(maxsize=1)
def _book() -> _Book:
    with open(os.path.join(os.path.dirname(__file__), "catalogue.json"), "rb") as file:
        return msgspec.json.decode(file.read(), type=_Book)


@lru_cache(maxsize=32)
def _entries(provider: str) -> list[_Entry]:
    raw = _book().providers.get(provider)
    return msgspec.json.decode(raw, type=list[_Entry]) if raw is not None else []


@lru_cache(maxsize=1_000)
def _listed(provider: str, name: str) -> ModelInfo | None:
    """The first model of this provider that goes by this name."""
    for entry in _entries(provider):
        for test in entry.match:
            group = (test,) if isinstance(test, str) else test
            if all(_passes(it, name, entry) for it in group):
                info = ModelInfo(
                    name=entry.name,
                    context_window=entry.context_window,
                    prices=entry.prices,
                    price_date=_book().date,
                )
                return _with_facts(info, provider, name)
    return None


def _with_facts(info: ModelInfo, provider: str, name: str) -> ModelInfo:
    """The same, and what a model of exactly this name can do, where the file says so."""
    for facts in _book().facts.get(provider, ()):
        if re.fullmatch(f"(?:{facts.names}){_VERSION}", name):
            window = info.context_window or facts.context_window
            told = {field: value for field, value in structs.asdict(facts).items() if field != "names"}
            return structs.replace(info, **(told | {"context_window": window}))
    return info


def _passes(test: str, name: str, entry: _Entry) -> bool:
    """Whether a name passes: `=x` is x, `^x` begins with it, `$x` ends with it, `~x` holds it, `/x` is a pattern."""
    text = test[1:]
    match test[0]:
        case "=":
            return name == (text or entry.name.lower())
        case "^":
            return name.startswith(text)
        case "$":
            return name.endswith(text)
        case "~":
            return text in name
    return re.search(text, name) is not None
