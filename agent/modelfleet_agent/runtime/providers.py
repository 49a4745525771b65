"""Execution providers behind one interface: which are used, in which order, with what.

Pure, and without ONNX Runtime: the supervisor asks here, too. CPU and its pre-optimised
graph run in the tests; XNNPACK, CUDA and TensorRT follow ONNX Runtime's documentation and
were never run on real hardware.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from modelfleet_agent.errors import RefusedError

CPU = "CPUExecutionProvider"
XNNPACK = "XnnpackExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

Options = dict[str, str]


@dataclass(frozen=True, slots=True)
class Provider:
    """One execution provider.

    Attributes:
        name: ONNX Runtime's.
        gpu: It reserves address space without end: memory is not limited by it.
        derives: It runs a file that is made on the device beforehand, and takes minutes to
            make it: without that file it is left out.
        options: Its options for so many threads.
        session: Session options that it wants.
    """

    name: str
    gpu: bool
    derives: bool
    options: Callable[[int], Options]
    session: Mapping[str, str]


def _none(_threads: int) -> Options:
    return {}


def _xnnpack(threads: int) -> Options:
    return {"intra_op_num_threads": str(threads)}  # a pool of its own


def _cuda(_threads: int) -> Options:
    # memory as asked for: the default doubles its arena, and the GPU shares the RAM
    return {
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
    }


def _tensorrt(_threads: int) -> Options:
    # lower precision may be chosen layer by layer: the self-test on golden inputs judges it
    return {"trt_fp16_enable": "1", "trt_builder_optimization_level": "3"}


PROVIDERS = {
    one.name: one
    for one in (
        Provider(CPU, gpu=False, derives=False, options=_none, session={}),
        Provider(
            XNNPACK,
            gpu=False,
            derives=False,
            options=_xnnpack,
            session={"session.intra_op.allow_spinning": "0"},
        ),
        Provider(CUDA, gpu=True, derives=False, options=_cuda, session={}),
        Provider(TENSORRT, gpu=True, derives=True, options=_tensorrt, session={}),
    )
}


def arrange(
    wanted: Iterable[str], *, threads: int, derived: bool
) -> list[tuple[str, Options]]:
    """Return providers with their options, as a session takes them; the CPU is the last.

    Args:
        wanted: Of the variant, in its order.
        threads: Inside one session.
        derived: The file that some of them need is there.

    Raises:
        RefusedError: `E_PROVIDER`: one is not known.
    """
    names = list(dict.fromkeys([*wanted, CPU]))
    if unknown := [name for name in names if name not in PROVIDERS]:
        known = ", ".join(PROVIDERS)
        what = f"the providers {unknown} are not known; known are {known}"
        raise RefusedError("E_PROVIDER", what)
    used = [PROVIDERS[name] for name in names if derived or not PROVIDERS[name].derives]
    return [(one.name, one.options(threads)) for one in used]


def uses_gpu(wanted: Sequence[str]) -> bool:
    """Say whether one of them takes a GPU."""
    return any(PROVIDERS[name].gpu for name in wanted if name in PROVIDERS)


def deriving(wanted: Sequence[str]) -> str | None:
    """Return the first provider that needs a file made on the device; None without one."""
    known = [PROVIDERS[name] for name in wanted if name in PROVIDERS]
    return next((one.name for one in known if one.derives), None)
