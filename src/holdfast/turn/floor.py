"""Floor: how many tokens a request or a reply took at least, whatever is said about it.

For prose that is about a quarter of what it takes, and for a long run of blanks nothing: no honest count is below it.
"""

from __future__ import annotations

from collections.abc import Callable

from holdfast.driver import Request, Transcript
from holdfast.messages import Message, Text, ToolCall, ToolResult

CHARACTERS = 256
"""Of a token at most, blanks aside. The longest ones of published vocabularies are runs of 128 equal characters."""

WORDS = 4
"""With a single space between them, of a token at most. In the vocabularies that are in use a token is a word or a part
of one; those that were made to reach over spaces stay below two words on average."""


class Running:
    """A sum over the messages of a transcript, which only grows: each is looked at once."""

    def __init__(self, of: Callable[[Message], int]) -> None:
        self._of = of
        self._transcript: Transcript | None = None
        self._seen = 0
        self._sum = 0

    def over(self, transcript: Transcript) -> int:
        """The sum; from the beginning where it is another transcript than the last time."""
        if self._transcript is not transcript:
            self._transcript, self._seen, self._sum = transcript, 0, 0
        if self._seen < len(transcript):
            self._sum += sum([self._of(it) for it in transcript[self._seen :]])
            self._seen = len(transcript)
        return self._sum


class Floor:
    """Of the requests of one session."""

    def __init__(self) -> None:
        self._messages = Running(_size_of)
        self._instructions = ""
        self._fixed = 0

    def under(self, request: Request) -> int:
        """Tokens that this request takes at least. Of tools nothing is counted: providers may leave them out."""
        if self._instructions is not request.instructions:
            self._instructions, self._fixed = request.instructions, _size(request.instructions)
        return (self._messages.over(request.messages) + self._fixed) // CHARACTERS


def under(message: Message) -> int:
    """Tokens that a model gave at least when it said this."""
    return _size_of(message) // CHARACTERS


def _size_of(message: Message) -> int:
    """What every provider counts of a message, in parts of a token. Earlier thoughts may be left out; pictures,
    documents and what ran at the provider are counted by rules of its own."""
    size = 0
    for part in message.content:
        if type(part) is Text:
            size += _size(part.text)
        elif type(part) is ToolCall:
            size += _size(part.arguments)
        elif type(part) is ToolResult:
            size += sum([_size(it.text) for it in part.content if type(it) is Text])
    return size


def _size(text: str) -> int:
    blanks = text.count(" ")
    solid = len(text) - blanks - text.count("\n")
    if not blanks:
        return solid
    single = blanks - 2 * text.count("  ")  # runs of an odd length: of a longer run one at most
    return max(solid, min(single, solid) * CHARACTERS // WORDS)
