"""The transcript that drivers encode: once per message and protocol, however often it is sent."""

import msgspec

from holdfast.driver import Reply, Request, Settings, Transcript
from holdfast.messages import Message, Text, user_message


class Counting:
    """An encoder that remembers what it was given."""

    def __init__(self) -> None:
        self.seen: list[Message] = []

    def __call__(self, message: Message) -> bytes:
        self.seen.append(message)
        return message.text.encode()


def test_a_message_is_encoded_once_however_often_the_transcript_is_sent() -> None:
    transcript, encode = Transcript([user_message("one")]), Counting()
    assert list(transcript.encoded("wire", encode)) == [b"one"]
    transcript.extend([user_message("two"), user_message("three")])
    assert list(transcript.encoded("wire", encode)) == [b"one", b"two", b"three"]
    assert list(transcript.encoded("wire", encode)) == [b"one", b"two", b"three"]
    assert encode.seen == list(transcript)


def test_each_protocol_has_its_own_bytes() -> None:
    transcript = Transcript([user_message("one")])
    assert transcript.encoded("plain", lambda message: message.text.encode()) == [b"one"]
    assert transcript.encoded("loud", lambda message: message.text.upper().encode()) == [b"ONE"]


def test_a_transcript_reads_like_a_sequence() -> None:
    messages = [user_message(str(number)) for number in range(4)]
    transcript = Transcript(messages)
    assert len(transcript) == 4
    assert transcript[0] is messages[0]
    assert transcript[-1] is messages[3]
    assert list(transcript[1:3]) == messages[1:3]
    assert messages[2] in transcript
    assert [message.text for message in reversed(transcript)] == ["3", "2", "1", "0"]


def test_a_transcript_does_not_change_with_the_list_it_was_made_of() -> None:
    messages = [user_message("one")]
    transcript = Transcript(messages)
    messages.clear()
    assert len(transcript) == 1


def test_settings_that_are_not_set_are_not_written() -> None:
    assert msgspec.json.encode(Settings()) == b"{}"
    assert msgspec.json.encode(Settings(temperature=0.0, parallel_calls=False)) == (
        b'{"temperature":0.0,"parallel_calls":false}'
    )


def test_a_request_and_a_reply_need_only_what_has_no_default() -> None:
    request = Request(model="m", messages=Transcript())
    assert (request.instructions, request.tools, request.stream, request.metadata) == ("", (), True, {})
    message = Message(id="", role="assistant", content=(Text(text="hi"),))
    assert Reply(message=message, stop="end_turn").usage.output_tokens == 0
