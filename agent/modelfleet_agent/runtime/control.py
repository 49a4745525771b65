"""The child's end of the control channel: orders in, answers out."""

import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from modelfleet_agent.errors import AgentError, RefusedError
from modelfleet_agent.runtime.messages import (
    Activate,
    Answer,
    Ask,
    Discard,
    Failure,
    Load,
    Loaded,
    Order,
    Ready,
    Request,
    Restore,
    Stop,
    Unload,
    Verify,
)
from modelfleet_agent.runtime.priority import Precedence, give_way
from modelfleet_agent.runtime.serving import Serving

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Request)


class Control:
    """Carries out what the supervisor orders; ends the process when it is gone."""

    def __init__(
        self,
        channel: socket.socket,
        serving: Serving,
        precedence: Precedence,
        *,
        gives_way: bool,
    ) -> None:
        """Take the channel; nothing is read yet.

        Args:
            channel: To the supervisor.
            serving: What is ordered about.
            precedence: Of answers over loads.
            gives_way: Loads take less of the processor than answers; for sessions that
                run in one thread, since others keep what they inherit from the load.
        """
        self._channel = channel
        self._serving = serving
        self._precedence = precedence
        self._obey: dict[type[Order], Callable[[Any], object]] = {
            Load: self._load,
            Activate: lambda order: serving.activate(order.slot, order.key),
            Restore: lambda order: serving.restore(order.slot),
            Discard: lambda order: serving.discard(order.slot, order.key),
            Unload: lambda order: serving.unload(order.slot, drains=order.drains),
            Verify: lambda order: serving.verify(order.slot),
            Ask: lambda _order: serving.statistics(),
        }
        self._writing = threading.Lock()
        # one thread for what takes long, so that counters can be asked for meanwhile
        self._slow = ThreadPoolExecutor(
            1, thread_name_prefix="load", initializer=give_way if gives_way else None
        )

    def announce(self, ready: Ready) -> None:
        """Tell the supervisor where the endpoint listens."""
        self._send(_encode(ready))

    def serve(self, stop: Callable[[], None]) -> None:
        """Read orders until `Stop`, or until the supervisor is gone.

        Args:
            stop: Called once for `Stop`, after its answer is sent.
        """
        with self._channel.makefile("rb") as lines:
            for line in lines:
                request = _decoder.decode(line)
                if isinstance(request.order, Stop):
                    self._send(_encode(Answer(id=request.id)))
                    stop()
                    return
                if isinstance(request.order, Load | Verify | Unload):
                    self._slow.submit(self._answer, request)
                else:
                    self._answer(request)
        os._exit(0)  # the supervisor died: nobody would ever update or stop this process

    def _load(self, order: Load) -> Loaded:
        with self._precedence.while_loading():
            return self._serving.load(order.slot, order.placed, order.threads)

    def _answer(self, request: Request) -> None:
        try:
            result = msgspec.Raw(_encode(self._obey[type(request.order)](request.order)))
            answer = Answer(id=request.id, result=result)
        except AgentError as error:
            failure = _failure(error)
            answer = Answer(id=request.id, failure=failure)
        except Exception as error:  # noqa: BLE001 - it must reach the supervisor
            what = f"{type(error).__name__}: {error}"
            answer = Answer(
                id=request.id, failure=Failure(code="E_RUNTIME", what=what, refused=False)
            )
        self._send(_encode(answer))

    def _send(self, line: bytes) -> None:
        with self._writing:
            self._channel.sendall(line + b"\n")


def _failure(error: AgentError) -> Failure:
    refused = isinstance(error, RefusedError)
    return Failure(code=error.code, what=error.what, refused=refused)
