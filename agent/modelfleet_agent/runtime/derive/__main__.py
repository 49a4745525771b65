"""The child that derives: `python -m modelfleet_agent.runtime.derive`, a `Task` as input.

For the CPU it is the graph as this processor's kernels want it; for TensorRT an ONNX file
with the compiled engine inside (ONNX Runtime's EP context), so that in both cases one file
is hashed, and loaded in place of the release's graph.
"""

import os
import sys
from pathlib import Path

import msgspec
import onnxruntime as ort

from modelfleet_agent.errors import AgentError
from modelfleet_agent.runtime.derive import Task
from modelfleet_agent.runtime.files import OpenFile
from modelfleet_agent.runtime.providers import CPU, TENSORRT, arrange
from modelfleet_agent.runtime.session import brief

QUANTIZED = b"QuantizeLinear"


def derive(task: Task) -> None:
    """Make the file.

    Raises:
        AgentError: A file of the release was altered.
        Exception: Whatever ONNX Runtime raises.
    """
    for file in task.placed.files:
        OpenFile(file).close()  # hashed: nothing is derived from what was not signed
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    graph = task.placed.files[0].path
    if task.provider == CPU:
        options.optimized_model_filepath = task.output
        used = arrange((), threads=1, derived=True)
    else:
        options.add_session_config_entry("ep.context_enable", "1")
        options.add_session_config_entry("ep.context_file_path", task.output)
        options.add_session_config_entry("ep.context_embed_mode", "1")
        used = arrange(task.placed.record.providers, threads=1, derived=True)
        used = [(name, _more(name, graph, given)) for name, given in used]
    ort.InferenceSession(graph, options, providers=used)


def _more(name: str, graph: str, given: dict[str, str]) -> dict[str, str]:
    """Return a provider's options for this graph: int8 where it says itself how."""
    quantized = name == TENSORRT and QUANTIZED in Path(graph).read_bytes()
    return {**given, "trt_int8_enable": "1"} if quantized else given


def main() -> None:
    """Read the task, do it; the exit code tells."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    try:
        derive(task)
    except AgentError as error:
        sys.exit(f"{error.code}: {error.what}")
    except Exception as error:  # noqa: BLE001 - ONNX Runtime raises several kinds
        sys.exit(brief(error))
    sys.stdout.flush()
    os._exit(0)  # a driver that crashes while it unloads says nothing about the file


if __name__ == "__main__":
    main()
