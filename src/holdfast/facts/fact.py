"""What every fact is made of."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct


class Fact(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Something that happened; `kind` is the event's `type`."""

    kind: ClassVar[str] = ""


class Failure(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What went wrong, for a person (`message`) and for code (`code`). `detail` is for operators only."""

    code: str
    message: str
    detail: str = ""
