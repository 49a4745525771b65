"""A question on the wire: does something at this address speak MQTT 5?"""

import secrets
import socket

from modelfleet_server.broker.address import Address

_CONNACK = 0x20
_SUCCESS = 0
_BODY = bytes.fromhex("00044d5154540502000a00")
"""Protocol name and level 5, clean start, keep alive 10 s, no properties."""


class SilentError(Exception):
    """Nothing there that would take an MQTT 5 client; the text says what was there."""


def ask(address: Address, timeout_s: float) -> None:
    """Connect as an MQTT 5 client, wait for the answer, and leave.

    Args:
        address: Whom to ask.
        timeout_s: For each of connecting and the answer, in seconds.

    Raises:
        SilentError: Nobody listens, or whoever listens is not a broker that lets us in.
    """
    try:
        with socket.create_connection(address, timeout=timeout_s) as wire:
            wire.sendall(_connect_packet())
            answer = _read_start(wire)
            if answer[:1] != bytes([_CONNACK]):
                raise SilentError("what listens there does not answer as an MQTT 5 broker")
            if answer[3] != _SUCCESS:
                raise SilentError(f"it refuses clients: MQTT 5 reason {answer[3]:#04x}")
            wire.sendall(b"\xe0\x00")  # DISCONNECT
    except OSError as error:
        raise SilentError(str(error)) from error


def _connect_packet() -> bytes:
    client_id = f"mf-probe-{secrets.token_hex(4)}".encode()
    body = _BODY + len(client_id).to_bytes(2, "big") + client_id
    return b"\x10" + bytes([len(body)]) + body


def _read_start(wire: socket.socket) -> bytes:
    """Return the first four bytes of a CONNACK: type, length, flags, reason."""
    read = b""
    while len(read) < 4:  # noqa: PLR2004 the four bytes above
        piece = wire.recv(4 - len(read))
        if not piece:
            raise SilentError(
                "what listens there closes the connection to an MQTT 5 client"
            )
        read += piece
    return read
