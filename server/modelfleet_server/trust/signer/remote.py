"""Asks the signer's process. What it says no to is raised here as it was raised there."""

import os
import socket
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from modelfleet_manifests.errors import FormatError
from modelfleet_manifests.keys import PublicKey
from modelfleet_server.trust.signer import wire
from modelfleet_server.trust.signer.domain import (
    REFUSALS,
    Greeting,
    RefusedError,
    RoleFile,
    Signature,
    SignerAwayError,
)

PATIENCE_S = 10.0
"""A signer that has died is started again; so long a question waits for it."""
ANSWER_S = 60.0
PAUSE_S = 0.05
FRAME = wire.MAX_FRAME // 2


class RemoteSigner:
    """A `Signer` that lives in another process. Threads take turns.

    Args:
        path: Of the socket.
        patience_s: How long to wait for a process that is not there yet.
    """

    def __init__(self, path: Path, patience_s: float = PATIENCE_S) -> None:
        self._path, self._patience_s = path, patience_s
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()

    def greet(self) -> Greeting:
        """Return whose keys it has, see `Signer`."""
        answer = self._ask(wire.Greet())
        if not isinstance(answer, wire.Greeted):
            raise _strange(answer)
        keys = {
            role: [PublicKey(key) for key in them] for role, them in answer.keys.items()
        }
        return Greeting(answer.fleet, keys)

    def learn(self, files: Sequence[RoleFile]) -> None:
        """Take role files, see `Signer`."""
        portion: list[tuple[str, bytes]] = []
        size = 0
        for file in files:
            if portion and size + len(file.data) > FRAME:
                self._learn(portion)
                portion, size = [], 0
            portion.append((file.role, file.data))
            size += len(file.data)
        self._learn(portion)

    def sign_role(
        self, role: str, payload: bytes, key_ids: Collection[str], *, base: int
    ) -> Signature:
        """Sign a snapshot or timestamp, see `Signer`."""
        return self._sign(wire.SignRole(role, payload, list(key_ids), base))[0]

    def sign_documents(
        self, kind: str, payloads: Sequence[bytes], key_ids: Collection[str]
    ) -> list[Signature]:
        """Sign documents of one kind, see `Signer`."""
        return self._sign(wire.SignDocuments(kind, list(payloads), list(key_ids)))

    def sign_time(self, nonce: str, key_ids: Collection[str]) -> bytes:
        """Sign what time it is, see `Signer`."""
        answer = self._ask(wire.SignTime(nonce, list(key_ids)))
        if not isinstance(answer, wire.Told):
            raise _strange(answer)
        return answer.token

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            self._hang_up()

    def _learn(self, files: list[tuple[str, bytes]]) -> None:
        answer = self._ask(wire.Learn(files))
        if not isinstance(answer, wire.Learnt):
            raise _strange(answer)

    def _sign(self, question: wire.Question) -> list[Signature]:
        answer = self._ask(question)
        if not isinstance(answer, wire.Signed):
            raise _strange(answer)
        return [Signature(*one) for one in answer.signatures]

    def _ask(self, question: wire.Question) -> wire.Answer:
        """Return the answer; asking twice is harmless, so it tries until it has one.

        Raises:
            RefusedError: Or another of `REFUSALS`.
            SignerAwayError: There is no answer in time.
        """
        with self._lock:
            answer = self._insist(question)
        if isinstance(answer, wire.Refused):
            kind = next((one for one in REFUSALS if one.code == answer.code), RefusedError)
            raise kind(answer.what, answer.hint, **answer.data)
        return answer

    def _insist(self, question: wire.Question) -> wire.Answer:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return self._converse(question)
            except (OSError, FormatError) as error:
                self._hang_up()
                if time.monotonic() > deadline:
                    raise _away(error) from None
                time.sleep(PAUSE_S)

    def _converse(self, question: wire.Question) -> wire.Answer:
        if self._connection is None:
            self._connection = connect(self._path)
            self._connection.settimeout(ANSWER_S)
        wire.send(self._connection, question)
        return wire.receive_answer(self._connection)

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError):
                connection.close()


def connect(path: Path) -> socket.socket:
    """Return a connection to the socket at `path`.

    Raises:
        OSError: Nobody listens there.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        with _Nearby(path) as name:
            connection.connect(name)
    except OSError:
        connection.close()
        raise
    return connection


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at `path`, for its owner only; replaces a stale one."""
    listener = socket.socket(socket.AF_UNIX)
    with _Nearby(path) as name:
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            listener.bind(name)
        finally:
            os.umask(before)
    listener.listen(64)
    return listener


class _Nearby:
    """Names a socket by its folder's descriptor: a path may have 107 bytes at most."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = -1

    def __enter__(self) -> str:
        self._folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._folder}/{self._path.name}"

    def __exit__(self, *_error: object) -> None:
        os.close(self._folder)


def _away(error: Exception) -> SignerAwayError:
    return SignerAwayError(
        f"the process that holds the online keys does not answer ({error})",
        "See the server's log; with --role, one process must be: "
        "modelfleet serve --role signer.",
    )


def _strange(answer: object) -> RefusedError:
    return RefusedError(f"the signer answered with a {type(answer).__name__}")
