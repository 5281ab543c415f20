"""Make the catalogue of models from the price list of the package `genai-prices`, before a release.

    pip install -e ".[release]"
    python scripts/make_catalogue.py            writes src/holdfast/catalogue.json; its date is today's
    python scripts/make_catalogue.py --check    says whether the file is what the installed package gives

What models can do, which that list does not say, is in `model_facts.toml` beside this script, kept by hand.

When nothing but the date would change, the file stays as it is. A model that is charged for by anything that a `Usage`
does not tell (images, audio made, requests, pages) is listed without prices: its cost is not known.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices import types as theirs
from genai_prices.data import providers as their_providers

FILE = Path(__file__).parents[1] / "src" / "holdfast" / "catalogue.json"

FACTS = Path(__file__).with_name("model_facts.toml")
FACT_FIELDS = ("names", "output", "images", "documents", "tools", "structured_output", "reasoning", "context")

PROVIDERS: dict[str, tuple[str, ...]] = {
    "anthropic": ("api.anthropic.com",),
    "avian": ("api.avian.io",),
    "baseten": ("inference.baseten.co",),
    "cerebras": ("api.cerebras.ai",),
    "cohere": ("api.cohere.ai", "api.cohere.com"),
    "deepseek": ("api.deepseek.com",),
    "fireworks": ("api.fireworks.ai",),
    "google": ("generativelanguage.googleapis.com",),
    "groq": ("api.groq.com",),
    "minimax": ("api.minimax.io", "api.minimaxi.com"),
    "mistral": ("api.mistral.ai",),
    "moonshotai": ("api.moonshot.ai", "api.moonshot.cn"),
    "novita": ("api.novita.ai",),
    "openai": ("api.openai.com",),
    "openrouter": ("openrouter.ai",),
    "ovhcloud": ("oai.endpoints.kepler.ai.cloud.ovh.net",),
    "perplexity": ("api.perplexity.ai",),
    "together": ("api.together.xyz",),
    "x-ai": ("api.x.ai",),
    "zai": ("api.z.ai",),
    "zhipuai": ("open.bigmodel.cn",),
}
"""The providers whose wire a driver speaks, and the hosts they answer at."""

VENDORS = {"openai-chat": "openai", "gemini": "google", "xai": "x-ai", "moonshot": "moonshotai"}
"""Vendors of model names that are called otherwise in the price list."""

OURS = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")
"""Prices that a reply's usage says all about, in the order of the fields of `Prices`."""

APART = {
    "web_searches_kcount",  # a reply in which the provider ran tools of its own is of unknown cost anyway
    "storage_searches_kcount",
    "input_audio_mtok",  # no driver sends audio or asks for it
    "cache_audio_read_mtok",
    "output_audio_mtok",
}
"""Prices of what our requests do not use."""


def catalogue(day: str) -> dict[str, Any]:
    """The whole file, as plain data."""
    known = {provider.id: provider for provider in their_providers}
    _check_hosts(known)
    return {
        "date": day,
        "source": f"genai-prices {version('genai-prices')}",
        "hosts": {host: name for name, hosts in PROVIDERS.items() for host in hosts},
        "vendors": {name: name for name in PROVIDERS} | VENDORS,
        "providers": {name: _entries(known[name]) for name in PROVIDERS},
        "facts": _facts(),
    }


def _facts() -> dict[str, list[list[Any]]]:
    """What models can do, each entry as `holdfast.catalogue` reads it."""
    found = {}
    for provider, entries in tomllib.loads(FACTS.read_text(encoding="utf-8")).items():
        for entry in entries:
            if provider not in PROVIDERS or entry.keys() - {*FACT_FIELDS, "source", "read"}:
                sys.exit(f"{FACTS.name}: {provider}, {entry} has a provider or a field that is not known")
            if not entry.get("source") or not isinstance(entry.get("read"), date):
                sys.exit(
                    f"{FACTS.name}: {provider}, {entry['names']} does not say where and when it was read"
                )
            re.compile(entry["names"])
        found[provider] = [_shortened([it.get(name) for name in FACT_FIELDS], (None,)) for it in entries]
    return found


def _entries(provider: theirs.Provider) -> list[list[Any]]:
    """Its models. Of OpenRouter's, hundreds of which are gone, those with a context window: what it serves now."""
    models = provider.models
    if provider.id == "openrouter":
        models = [model for model in models if model.context_window]
    return [_entry(model) for model in models]


def _check_hosts(known: dict[str, theirs.Provider]) -> None:
    for name, hosts in PROVIDERS.items():
        for host in hosts:
            if not re.match(known[name].api_pattern, f"https://{host}"):
                sys.exit(f"genai-prices has {name} at {known[name].api_pattern}, not at {host}")


def _entry(model: theirs.ModelInfo) -> list[Any]:
    """One model: its name, what names match, its context window, its prices; as `holdfast.catalogue` reads it.

    It is listed even when nothing is known of it: a later one may match the same names, and must not.
    """
    tests = [
        ["=" if test == f"={model.id.lower()}" else test for test in each] for each in _any_of(model.match)
    ]
    entry = [
        model.id,
        [each if len(each) > 1 else each[0] for each in tests],
        model.context_window,
        _rows(model),
    ]
    return _shortened(entry, (None, []))


def _shortened(values: list[Any], empty: tuple[Any, ...]) -> list[Any]:
    """Without the empty ones at its end."""
    while values[-1] in empty:
        values = values[:-1]
    return values


def _any_of(clause: Any) -> Iterator[tuple[str, ...]]:
    """The clause as alternatives, in each of which every test must pass."""
    match clause:
        case theirs.ClauseOr(or_=parts):
            for part in parts:
                yield from _any_of(part)
        case theirs.ClauseAnd(and_=parts):
            found: list[tuple[str, ...]] = [()]
            for part in parts:
                found = [(*before, *each) for before in found for each in _any_of(part)]
            yield from found
        case theirs.ClauseEquals(equals=text):
            yield (f"={text.lower()}",)
        case theirs.ClauseStartsWith(starts_with=text):
            yield (f"^{text.lower()}",)
        case theirs.ClauseEndsWith(ends_with=text):
            yield (f"${text.lower()}",)
        case theirs.ClauseContains(contains=text):
            yield (f"~{text.lower()}",)
        case theirs.ClauseRegex(regex=text):
            yield (f"/{text}",)
        case _:
            sys.exit(f"genai-prices has a kind of clause that is new here: {clause!r}")


def _rows(model: theirs.ModelInfo) -> list[list[Any]]:
    """The prices, the last of which that applies counts; none when a usage does not tell the cost."""
    given = model.prices
    dated = given if isinstance(given, list) else [theirs.ConditionalPrice(prices=given)]
    rows = []
    for place, each in enumerate(dated):
        prices = {key: price for key, price in vars(each.prices).items() if price is not None}
        if prices.keys() - set(OURS) - APART or "input_mtok" not in prices:
            return []
        condition = _condition(each.constraint) if place else [None, None]  # the first: when no other applies
        rows += [_shortened([*row, *condition], (None, 0)) for row in _tiers(prices)]
    return rows


def _condition(constraint: Any) -> list[Any]:
    """Since when, and between which hours."""
    match constraint:
        case None:
            return [None, None]
        case theirs.StartDateConstraint(start_date=start):
            return [start.isoformat(), None]
        case theirs.TimeOfDateConstraint(start_time=start, end_time=end):
            day = datetime(2000, 1, 1, tzinfo=UTC)
            hours = [datetime.combine(day, it, it.tzinfo or UTC).astimezone(UTC) for it in (start, end)]
            return [None, [f"{it:%H:%M:%S}Z" for it in hours]]
    sys.exit(f"genai-prices has a kind of constraint that is new here: {constraint!r}")


def _tiers(prices: dict[str, Any]) -> Iterator[list[Any]]:
    """One row for the base prices, and one for requests with more input tokens than each tier begins at."""
    tiered = [price for price in prices.values() if isinstance(price, theirs.TieredPrices)]
    for above in sorted({0} | {tier.start for price in tiered for tier in price.tiers}):
        yield [*(_price(prices.get(key), above) for key in OURS), above]


def _price(price: Any, above: int) -> str | None:
    if isinstance(price, theirs.TieredPrices):
        reached = [tier.price for tier in price.tiers if tier.start <= above]
        price = reached[-1] if reached else price.base
    return None if price is None else f"{price.normalize():f}"


def text_of(book: dict[str, Any]) -> str:
    """The file: one line per model, so that a change of prices shows as such."""
    heads = [f"{json.dumps(key)}:{_compact(book[key])}" for key in ("date", "source", "hosts", "vendors")]
    lists = [
        f"{json.dumps(name)}:[\n" + ",\n".join(_compact(entry) for entry in entries) + "\n]"
        for name, entries in sorted(book["providers"].items())
    ]
    facts = [
        f"{json.dumps(name)}:[\n" + ",\n".join(_compact(entry) for entry in entries) + "\n]"
        for name, entries in sorted(book["facts"].items())
    ]
    parts = [",\n".join(heads)]
    parts += [
        f'"{name}":{{\n' + ",\n".join(told) + "\n}" for name, told in (("facts", facts), ("providers", lists))
    ]
    return "{" + ",\n".join(parts) + "}\n"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def main() -> int:
    """Write the file, or check it; 1 when it is not what the package gives."""
    parser = argparse.ArgumentParser(description="Make the catalogue of models from genai-prices.")
    parser.add_argument("--check", action="store_true", help="only say whether the file is up to date")
    wanted = parser.parse_args()
    there = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    if there and there == text_of(catalogue(json.loads(there)["date"])):
        print(f"{FILE.name} is what genai-prices {version('genai-prices')} gives")
        return 0
    if wanted.check:
        print(
            f"{FILE.name} is not what genai-prices {version('genai-prices')} gives: run this without --check"
        )
        return 1
    FILE.write_text(text_of(catalogue(f"{datetime.now(UTC):%Y-%m-%d}")), encoding="utf-8")
    print(f"wrote {FILE.name}: {FILE.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
