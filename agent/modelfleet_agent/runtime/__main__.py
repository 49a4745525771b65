"""The runtime child: `python -m modelfleet_agent.runtime FD SETTINGS`.

FD is the control channel, SETTINGS the `RuntimeSettings` as JSON. Started by
`client.RuntimeClient` only; it ends when the supervisor does.
"""

import asyncio
import gc
import os
import socket
import sys
import threading

import onnxruntime

from modelfleet_agent.runtime.answers import Answers
from modelfleet_agent.runtime.control import Control
from modelfleet_agent.runtime.messages import Ready, decode_settings
from modelfleet_agent.runtime.priority import Precedence
from modelfleet_agent.runtime.protocol import Protocol
from modelfleet_agent.runtime.server import Server
from modelfleet_agent.runtime.serving import Serving
from modelfleet_agent.settings import RuntimeSettings

SWITCH_S = (
    0.0005  # a tenth of the usual: a load computes in the interpreter for milliseconds
)


async def serve(channel: socket.socket, settings: RuntimeSettings) -> None:
    """Serve until the supervisor says stop."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    serving = Serving(request_s=settings.request_s)
    answers, precedence = Answers(settings.remembered), Precedence()
    protocol = Protocol(
        serving,
        answers,
        version=onnxruntime.__version__,
        local_control=settings.local_control,
    )
    server = Server(protocol.answer, settings, serving.reject, precedence)
    control = Control(channel, serving, precedence, gives_way=settings.is_single)
    try:
        port = await server.start()
    except OSError as error:
        where = settings.socket or f"port {settings.port}"
        sys.exit(f"the endpoint cannot listen on {where}: {error}")
    control.announce(
        Ready(
            pid=os.getpid(),
            port=port,
            socket=str(settings.socket) if settings.socket else None,
            runtime=f"onnxruntime {onnxruntime.__version__}",
        )
    )
    orders = threading.Thread(
        target=control.serve,
        args=(lambda: loop.call_soon_threadsafe(stopping.set),),
        name="control",
        daemon=True,
    )
    orders.start()
    await stopping.wait()
    await server.stop()


def main() -> None:
    """Take the arguments and serve."""
    gc.freeze()  # a collection of all modules would stop every answer for 20 ms
    sys.setswitchinterval(SWITCH_S)
    channel = socket.socket(fileno=int(sys.argv[1]))
    asyncio.run(serve(channel, decode_settings(sys.argv[2])))
    os._exit(0)  # destroying sessions takes long and frees nothing that exit does not


if __name__ == "__main__":
    main()
