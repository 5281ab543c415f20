"""Screen: what guards let through of a message while it is being written.

What may turn out to be the beginning of something that is looked for is held back until that is told, so that nobody is
shown the half of it. Where no length bounds what is looked for, or a guard judges whole messages, all is held back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from holdfast.driver import DeltaKind
from holdfast.guard import Guard, Guards
from holdfast.manifest import Manifest
from holdfast.matching.sieve import fold
from holdfast.turn.watch import Watch

STEP = 32
"""Characters that are let through together: so often is looked."""
MOST = 8_192
"""Characters held back because blanks, or signs that do not count, go on and on."""
_CONTEXT = 16
"""Characters of what was let through that are remembered, for edges of words."""


Piece = tuple[DeltaKind, str, int]


class Strainer:
    """One stream of text. `feed` and `end` return what may be shown; nothing more once something was found."""

    __slots__ = ("_context", "_guards", "_keep", "_next", "_text", "_whole", "found")

    def __init__(self, guards: Guards) -> None:
        self._guards = guards
        self._text = ""
        self._context = 0
        """How much of that was let through."""
        self._whole = True
        """Whether it begins where the stream does."""
        self._keep = max(guards.width, 2 * guards.reach)
        self._next = self._keep + STEP
        self.found: tuple[Guard, str] | None = None
        """Who found something, and by which rule."""

    def feed(self, piece: str) -> str:
        """Take in what follows."""
        self._text += piece
        if len(self._text) - self._context < self._next or self.found is not None:
            return ""
        return self._let_through() if not self._looked(final=False) else self._wait()

    def end(self) -> str:
        """Nothing follows: what is left, when nothing was found."""
        if not self._text or self.found is not None or self._looked(final=True):
            return ""
        rest, self._text, self._context = self._text[self._context :], "", 0
        return rest

    def _wait(self) -> str:
        self._next = len(self._text) - self._context + STEP
        return ""

    def _let_through(self) -> str:
        text, keep = self._text, self._keep
        held = len(text) - self._context
        if self._guards.reach and held < MOST and len(fold(text[-keep:])) < self._guards.reach:
            return self._wait()
        cut = len(text) - keep
        start = max(0, cut - _CONTEXT)
        shown = text[self._context : cut]
        self._text, self._context, self._whole = text[start:], cut - start, self._whole and not start
        self._next = keep + STEP
        return shown

    def _looked(self, *, final: bool) -> bool:
        """Whether something was found, or may be found at the end of what there is."""
        sieve = self._guards.sieve
        if sieve is None:
            return False
        open_end = False
        if sieve.texts is not None:
            data = self._text.encode(errors="replace")
            found = sieve.texts.search(
                data, 0 if self._whole else len(self._text[:1].encode(errors="replace"))
            )
            if found:
                length = len(data[found.start() : found.end()].decode(errors="ignore"))
                if final or found.end() < len(data) or length > self._guards.width:
                    return self._blame()
                open_end = True
        if sieve.folds is not None:
            data = fold(self._text if self._whole else f"x{self._text}").encode(errors="replace")
            if found := sieve.folds.search(data):
                if final or found.end() < len(data) or len(self._text) - self._context > MOST:
                    return self._blame()
                open_end = True
        return open_end

    def _blame(self) -> bool:
        streaming = self._guards.streaming
        hits = ((guard, guard.sieve.find(self._text)) for guard in streaming)
        self.found = next(((guard, hit.rule) for guard, hit in hits if hit), (streaming[0], ""))
        return True


def screen_of(watch: Watch, manifest: Manifest, *, typed: bool) -> Screen:
    """What stands between the driver and whoever sees the message. A typed answer is JSON, in which words can be
    disguised: it is held back as a whole."""
    return Screen(watch, manifest.guarding, whole=typed)


class Screen:
    """Stands between a driver and whoever sees the message. Calls are held back until all of it has passed."""

    def __init__(self, watch: Watch, guards: Guards, *, whole: bool) -> None:
        self.watch = watch
        self.holds = whole or guards.hold
        """Whether all of it is held back until it has passed."""
        self._texts: dict[str, Strainer] = {"text": Strainer(guards), "thinking": Strainer(guards)}
        self._held: list[Piece] = []
        self._speaks = guards.blocking
        self.found: tuple[Guard, str] | None = None
        self.code = ""
        """What a function called what it found."""
        self._elsewhere: Callable[[Piece], None] | None = None
        self.shown = False
        """Whether anybody may have seen anything of it."""

    def emit(self, kind: DeltaKind, piece: str, index: int) -> None:
        """What the driver calls for each piece."""
        self.watch.heard()
        if self.found is not None:
            return
        if kind == "arguments" or (self.holds and self._speaks):
            self._held.append((kind, piece, index))
            return
        if not self._speaks:
            self._show(kind, piece, index)
            return
        strainer = self._texts[kind]
        if shown := strainer.feed(piece):
            self._show(kind, shown, index)
        elif strainer.found is not None:
            self.withhold(*strainer.found)

    def said(self) -> list[str]:
        """What was held back as a whole: the thinking, and the words."""
        kinds: tuple[DeltaKind, ...] = ("thinking", "text")
        return ["".join(piece for kind, piece, _ in self._held if kind == which) for which in kinds]

    def end(self) -> list[Piece]:
        """The message is over: what is still held back."""
        rest: list[Piece] = []
        for kind in ("thinking", "text"):
            strainer = self._texts[kind]
            left = strainer.end()
            if strainer.found is not None and self.found is None:
                self.withhold(*strainer.found)
            elif left:
                rest.append((kind, left, 0))
        return [*rest, *self._held] if self.found is None else []

    def divert(self, to: Callable[[Piece], None] | None) -> None:
        """What passes goes there, and is shown later."""
        self._elsewhere = to

    def withhold(self, guard: Guard, rule: str, code: str = "") -> None:
        """Nothing more is shown, and what was shown is void."""
        self.found, self.code = (guard, rule), code
        self.watch.withdraw(f"the guard {guard.id} withheld it", told=self.shown)

    def show(self, pieces: Iterable[Piece]) -> None:
        """These have passed, and nothing has been found since."""
        for kind, piece, index in pieces:
            if self.found is None:
                self.shown = True
                self.watch.emit(kind, piece, index)

    def _show(self, kind: DeltaKind, piece: str, index: int) -> None:
        if self._elsewhere is not None:
            self._elsewhere((kind, piece, index))
            return
        self.shown = True
        self.watch.emit(kind, piece, index)
