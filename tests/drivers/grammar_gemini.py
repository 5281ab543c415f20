"""Gemini's rules of a conversation, from its documentation: what `contents` must be for the API to take it.

- There is at least one content, the first is the user's, and users and the model take turns.
- No content is without parts, and each part is of exactly one kind. A text is empty only beside a signature.
- A model's content with calls is followed at once by a user's content with as many results, for the same ids and names
  in the same order, before anything else that the user says. No result stands anywhere else.
- Only the model calls, thinks and signs. On Gemini 3 the first call of a content has a signature.
- What a call is made with, and what comes of it, are objects. A name is made of letters, digits and a few signs.
- Bytes are base64 with a media type.
"""

import base64
import re
from typing import Any

KINDS = frozenset(
    {
        "text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode",
        "codeExecutionResult", "toolCall", "toolResponse",
    }
)  # fmt: skip


NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")


def check(body: dict[str, Any], *, signed: bool) -> None:
    """Raises `AssertionError` with everything in this request that breaks a rule. See `problems`."""
    found = problems(body, signed=signed)
    assert not found, "; ".join(found)


def problems(body: dict[str, Any], *, signed: bool) -> list[str]:
    """Everything in this request that breaks a rule. `signed` for models that want signatures."""
    contents = body.get("contents") or []
    if not contents:
        return ["there are no contents"]
    found = []
    wanted = "user"
    calls: list[dict[str, Any]] = []
    for place, content in enumerate(contents):
        if content.get("role") != wanted:
            found.append(f"{place}: {content.get('role')} speaks, and it is the {wanted}'s turn")
        wanted = "model" if content.get("role") == "user" else "user"
        parts = content.get("parts") or []
        if not parts:
            found.append(f"{place}: a content without parts")
        found += [f"{place}: {complaint}" for part in parts for complaint in of_part(part, content["role"])]
        found += [f"{place}: {complaint}" for complaint in of_results(parts, calls)]
        calls = [part["functionCall"] for part in parts if "functionCall" in part]
        if signed:
            found += [f"{place}: {complaint}" for complaint in of_signatures(parts)]
    if calls:
        found.append("the last calls have no results")
    return found


def of_part(part: dict[str, Any], role: str) -> list[str]:
    found = []
    kinds = KINDS & set(part)
    if len(kinds) != 1:
        found.append(f"a part is of the kinds {sorted(kinds)}: {sorted(part)}")
    if part.get("text") == "" and "thoughtSignature" not in part:
        found.append("a text is empty")
    if role == "user" and {"functionCall", "thought", "thoughtSignature"} & set(part):
        found.append("a user calls, thinks or signs")
    if role == "model" and "functionResponse" in part:
        found.append("the model answers its own call")
    if "functionCall" in part and not isinstance(part["functionCall"].get("args"), dict):
        found.append("a call is made with something that is no object")
    if "functionResponse" in part and not isinstance(part["functionResponse"].get("response"), dict):
        found.append("a result is no object")
    for kind in ("functionCall", "functionResponse"):
        if kind in part and not NAME.fullmatch(part[kind].get("name", "")):
            found.append(f"{part[kind].get('name')!r} is no name")
    media = [part, *part.get("functionResponse", {}).get("parts", ())]
    found += [complaint for it in media if "inlineData" in it for complaint in of_bytes(it["inlineData"])]
    return found


def of_bytes(data: dict[str, Any]) -> list[str]:
    try:
        base64.b64decode(data.get("data", "?"), validate=True)
    except ValueError:
        return ["bytes are no base64"]
    return [] if re.fullmatch(r"[a-z]+/[\w.+-]+", data.get("mimeType", "")) else ["bytes have no type"]


def of_results(parts: list[dict[str, Any]], calls: list[dict[str, Any]]) -> list[str]:
    results = [part["functionResponse"] for part in parts if "functionResponse" in part]
    found = []
    if [named(call) for call in calls] != [named(result) for result in results]:
        found.append(f"{len(calls)} calls before, {len(results)} results here, or not for each other")
    if any("functionResponse" not in part for part in parts[: len(results)]):
        found.append("something stands before the results")
    if len({call.get("id") for call in calls}) != len(calls):
        found.append("two calls have one id")
    return found


def named(call: dict[str, Any]) -> tuple[Any, Any]:
    return call.get("id"), call.get("name")


def of_signatures(parts: list[dict[str, Any]]) -> list[str]:
    first = next((part for part in parts if "functionCall" in part), None)
    return (
        ["the first call has no signature"] if first is not None and "thoughtSignature" not in first else []
    )
