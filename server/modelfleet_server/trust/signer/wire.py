"""What is said to the signer, and its answers: length-framed MessagePack.

A frame is the length of its body, 4 bytes big-endian, and the body. One answer follows each
question; a connection that breaks the form is closed.
"""

import socket
import struct
from typing import Any

import msgspec

from modelfleet_manifests.errors import FormatError

MAX_FRAME = 32 << 20
"""Role files of a whole fleet go in several frames; nothing else comes near this."""
_HEAD = struct.Struct(">I")


class Greet(msgspec.Struct, frozen=True, tag="greet"):
    """Asks whose keys there are."""


class Learn(msgspec.Struct, frozen=True, tag="learn"):
    """Pairs of role and file, delegating roles first."""

    files: list[tuple[str, bytes]]


class SignRole(msgspec.Struct, frozen=True, tag="role"):
    """A snapshot or timestamp to sign."""

    role: str
    payload: bytes
    key_ids: list[str]
    base: int


class SignDocuments(msgspec.Struct, frozen=True, tag="documents"):
    """Documents of one kind to sign."""

    kind: str
    payloads: list[bytes]
    key_ids: list[str]


class SignTime(msgspec.Struct, frozen=True, tag="time"):
    """A device asks what time it is."""

    nonce: str
    key_ids: list[str]


Question = Greet | Learn | SignRole | SignDocuments | SignTime


class Greeted(msgspec.Struct, frozen=True, tag="greeted"):
    """Whose keys there are: public keys by role in hexadecimal digits, the newest first."""

    fleet: str
    keys: dict[str, list[str]]


class Learnt(msgspec.Struct, frozen=True, tag="learnt"):
    """All was taken."""


class Signed(msgspec.Struct, frozen=True, tag="signed"):
    """Pairs of key id and signature, in the order of what was to be signed."""

    signatures: list[tuple[str, bytes]]


class Told(msgspec.Struct, frozen=True, tag="told"):
    """The signed time token."""

    token: bytes


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """Nothing was signed; `code` is one of those of `domain.REFUSALS`."""

    code: str
    what: str
    hint: str
    data: dict[str, str | int]


Answer = Greeted | Learnt | Signed | Told | Refused

_encode = msgspec.msgpack.Encoder().encode
_questions = msgspec.msgpack.Decoder(Question)
_answers = msgspec.msgpack.Decoder(Answer)


def send(connection: socket.socket, message: Question | Answer) -> None:
    """Send one message.

    Raises:
        OSError: The other side is gone.
    """
    body = _encode(message)
    connection.sendall(_HEAD.pack(len(body)) + body)


def receive_question(connection: socket.socket) -> Question | None:
    """Return the next question, None at the end.

    Raises:
        FormatError: It is none.
        OSError: The connection broke.
    """
    body = _receive(connection)
    return None if body is None else _decode(_questions, body)


def receive_answer(connection: socket.socket) -> Answer:
    """Return the answer to a question.

    Raises:
        FormatError: It is none.
        OSError: The connection ended.
    """
    body = _receive(connection)
    if body is None:
        raise ConnectionResetError("the signer hung up")
    answer: Answer = _decode(_answers, body)
    return answer


def _decode(decoder: msgspec.msgpack.Decoder[Any], body: bytes) -> Any:  # noqa: ANN401
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise FormatError("message to or from the signer", str(error)) from None


def _receive(connection: socket.socket) -> bytes | None:
    head = _read(connection, _HEAD.size)
    if head is None:
        return None
    (length,) = _HEAD.unpack(head)
    if length > MAX_FRAME:
        raise FormatError("message to or from the signer", f"has {length} bytes")
    body = _read(connection, length)
    if body is None:
        raise ConnectionResetError("the connection ended in a message")
    return body


def _read(connection: socket.socket, length: int) -> bytes | None:
    data = bytearray()
    while len(data) < length:
        piece = connection.recv(min(length - len(data), 1 << 16))
        if not piece:
            if data:
                raise ConnectionResetError("the connection ended in a message")
            return None if length else b""
        data += piece
    return bytes(data)
