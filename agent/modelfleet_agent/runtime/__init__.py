"""The runtime child and its supervisor side, and a slot for use inside an application.

The supervisor imports `client`, `limits`, `selftest`, `patch` and `messages`: none of them
imports numpy or ONNX Runtime. Everything else here runs in child processes only, or in an
application through `Slot`, which is imported when it is asked for.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelfleet_agent.runtime.handle import Slot

__all__ = ["Slot"]


def __getattr__(name: str) -> object:
    if name == "Slot":
        from modelfleet_agent.runtime.handle import Slot  # noqa: PLC0415 - it is heavy

        return Slot
    raise AttributeError(name)
