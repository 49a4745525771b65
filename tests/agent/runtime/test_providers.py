"""Which execution providers a session gets, and with what."""

import onnxruntime
import pytest

from modelfleet_agent.errors import RefusedError
from modelfleet_agent.runtime.providers import (
    CPU,
    CUDA,
    TENSORRT,
    XNNPACK,
    arrange,
    deriving,
    uses_gpu,
)


def names(*wanted: str, derived: bool = False) -> list[str]:
    return [name for name, _ in arrange(wanted, threads=2, derived=derived)]


def test_the_cpu_is_always_there_and_last() -> None:
    assert names() == [CPU]
    assert names(XNNPACK) == [XNNPACK, CPU]
    assert names(CPU, XNNPACK) == [CPU, XNNPACK]
    assert names(CUDA, CUDA) == [CUDA, CPU]


def test_an_engine_that_was_not_built_is_not_built_at_a_load() -> None:
    wanted = (TENSORRT, CUDA)
    assert names(*wanted) == [CUDA, CPU]
    assert names(*wanted, derived=True) == [TENSORRT, CUDA, CPU]
    assert deriving(wanted) == TENSORRT
    assert deriving((CUDA,)) is None


def test_accelerators_reserve_memory_without_end() -> None:
    assert uses_gpu((TENSORRT,))
    assert uses_gpu((CPU, CUDA))
    assert not uses_gpu((XNNPACK, CPU))


def test_threads_are_the_providers_own() -> None:
    assert dict(arrange([XNNPACK], threads=3, derived=False))[XNNPACK] == {
        "intra_op_num_threads": "3"
    }


def test_every_option_is_a_text_as_onnxruntime_wants_it() -> None:
    for _, options in arrange([TENSORRT, CUDA, XNNPACK], threads=1, derived=True):
        assert all(isinstance(one, str) for one in options.values())
    assert set(names(TENSORRT, CUDA, XNNPACK, derived=True)) <= set(
        onnxruntime.get_all_providers()
    )


def test_a_provider_that_nobody_knows_is_refused() -> None:
    with pytest.raises(RefusedError) as caught:
        names("MagicExecutionProvider")
    assert caught.value.code == "E_PROVIDER"
    assert "MagicExecutionProvider" in caught.value.what
