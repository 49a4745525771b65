"""First code of a broker's process: arrange to die with the server, then become the broker.

Run by path, as `python -P launch.py PARENT exec COMMAND...` or `... PARENT embedded TOML`.
Imports nothing of ours, so that it starts fast. The kernel sends the signal when the
*thread* that started this process ends; `child` keeps it while it wants the broker.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGTERM when the parent is gone; leave if it is gone already."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is None:  # not Linux: only `stop` ends the broker there
        return
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def main(arguments: list[str]) -> None:
    """Become the broker that `arguments` describe."""
    parent, mode, *rest = arguments
    die_with_parent(int(parent))
    if mode == "exec":
        os.execv(rest[0], rest)  # noqa: S606 the whole point: no shell, same process
    serve_embedded(rest[0])


def serve_embedded(config: str) -> None:
    """Run rumqttd in this process with the configuration file `config`, until a signal."""
    import logging  # noqa: PLC0415 neither is needed when this process becomes Mosquitto

    from iotcore.iotcore import IotCoreBroker  # noqa: PLC0415

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # rumqttd logs each packet as an error span
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    IotCoreBroker(config_path=config).run_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
