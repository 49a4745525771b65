"""The process that holds the online keys: `python -m modelfleet_server.trust.signer`.

It listens on a Unix socket and ends when its standard input does, so it never outlives
whoever started it. Its first line of output says that it is ready, or why it is not.
"""

import ctypes
import fcntl
import json
import logging
import os
import resource
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

from modelfleet_manifests.errors import ManifestError
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.errors import AppError, ConflictError
from modelfleet_server.trust.online import read_rings
from modelfleet_server.trust.signer import wire
from modelfleet_server.trust.signer.desk import Desk
from modelfleet_server.trust.signer.domain import REFUSALS, RefusedError, RoleFile
from modelfleet_server.trust.signer.memory import Memory
from modelfleet_server.trust.signer.remote import listen

log = logging.getLogger("modelfleet.signer")
_PR_SET_DUMPABLE = 4
MEMORY = "signer.db"
PATIENCE_S, PAUSE_S = 2.0, 0.02
_HELD: list[IO[str]] = []
"""Open for as long as the process lives."""


def hide() -> None:
    """Let no process of the same user read this one's memory, and write no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:  # Linux
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def answer(desk: Desk, question: wire.Question) -> wire.Answer:
    """Return what the desk says to one question, or why it refuses."""
    try:
        return _agree(desk, question)
    except REFUSALS as error:
        data = {key: one for key, one in error.data.items() if isinstance(one, str | int)}
        return wire.Refused(error.code, error.what, error.hint, data)
    except (AppError, ManifestError) as error:
        return wire.Refused(RefusedError.code, str(error), "", {})


def _agree(desk: Desk, question: wire.Question) -> wire.Answer:
    match question:
        case wire.Greet():
            fleet, keys = desk.greet()
            public = {role: [key.hex for key in them] for role, them in keys.items()}
            return wire.Greeted(fleet, public)
        case wire.Learn(files):
            desk.learn([RoleFile(*one) for one in files])
            return wire.Learnt()
        case wire.SignRole(role, payload, key_ids, base):
            return wire.Signed([desk.sign_role(role, payload, key_ids, base=base)])
        case wire.SignDocuments(kind, payloads, key_ids):
            return wire.Signed(list(desk.sign_documents(kind, payloads, key_ids)))
        case wire.SignTime(nonce, key_ids):
            return wire.Told(desk.sign_time(nonce, key_ids))


def serve(desk: Desk, connection: socket.socket) -> None:
    """Answer the questions of one connection until it ends."""
    with connection:
        try:
            while (question := wire.receive_question(connection)) is not None:
                wire.send(connection, answer(desk, question))
        except (OSError, ManifestError) as error:
            log.warning("a connection to the signer broke: %s", error)
        except Exception:
            log.exception("the signer failed at a question")


def main(keys: Path, path: Path) -> None:
    """Hold the keys of `keys` and answer at the socket `path` until the input ends.

    Raises:
        AppError: A key file is missing or broken, or another signer has it.
    """
    hide()
    os.umask(0o077)
    _take_turn(keys.parent / ".signer.lock")
    memory = Memory(keys.parent / MEMORY)
    desk = Desk(partial(read_rings, keys), memory, now_ms)
    listener = listen(path)
    threading.Thread(target=_accept, args=(desk, listener), daemon=True).start()
    tell({"ready": True})
    sys.stdin.buffer.read()
    with suppress(FileNotFoundError):
        path.unlink()
    memory.close()


def _take_turn(path: Path) -> None:
    """Hold a lock until this process ends; the one before may be about to.

    Raises:
        ConflictError: It does not.
    """
    lock = path.open("a+")
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                raise ConflictError(
                    f"another signer has the keys in {path.parent}"
                ) from None
            time.sleep(PAUSE_S)
        else:
            _HELD.append(lock)
            return


def tell(said: dict[str, object]) -> None:
    """Say one line to whoever started this process."""
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def _accept(desk: Desk, listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(desk, connection), daemon=True).start()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s signer %(message)s")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except (AppError, OSError) as error:
        said = error if isinstance(error, AppError) else ConflictError(str(error))
        tell({"what": said.what, "hint": said.hint, "code": said.code})
        sys.exit(1)
