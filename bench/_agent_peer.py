"""The endpoint against Seldon MLServer: same model, same run, same clients.

MLServer lives in an environment of its own, made once in `.cache/mlserver`. It has no
runtime for ONNX, so it is given the smallest there can be. It serves in its own process
(`parallel_workers` 0), which is its fastest for a small model. Both are asked over
loopback TCP in JSON, which both speak.
"""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import onnxruntime

from bench import _agent_models as models
from bench._agent_client import ask, connect, json_request
from bench._agent_runtime import SLOT, clients, stage

CACHE = Path(__file__).parents[1] / ".cache" / "mlserver"
INSTALL_S = 600
START_S = 60
ASK_S = 4.0
ROUNDS = 3
CLIENTS = 2  # keep a server of one processor busy; a lone one mostly waits for it
SHAPE = [1, 64]
RUNTIME = """
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class OnnxModel(MLModel):
    async def load(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = self.settings.parameters.uri
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload):
        feeds = {one.name: NumpyCodec.decode_input(one) for one in payload.inputs}
        answer = self.session.run(["y"], {"x": feeds["x"].astype("float32")})[0]
        output = NumpyCodec.encode_output("y", answer)
        return InferenceResponse(model_name=self.name, outputs=[output])
"""


def against_mlserver() -> dict[str, float | None]:
    """Requests per second of the endpoint over those of MLServer; None where it is not."""
    program = installed()
    if program is None:
        return {"mlserver_ratio": None}
    with tempfile.TemporaryDirectory() as text, stage() as made:
        model = Path(text) / "model.onnx"
        model.write_bytes(models.small(0))
        made.swap(models.release(made.store, models.small(0), "1.0.0"))
        ready = made.client.ready
        assert ready
        assert ready.port
        with mlserver(program, model) as port:
            lone = compared(ready.port, port, count=1)
            busy = compared(ready.port, port, count=CLIENTS)
    return {
        "endpoint_per_s": round(busy[0]),
        "mlserver_per_s": round(busy[1]),
        "mlserver_ratio": round(busy[0] / busy[1], 2),
        "mlserver_ratio_one_client": round(lone[0] / lone[1], 2),
    }


def compared(ours: int, theirs: int, *, count: int) -> tuple[float, float]:
    """Requests per second of both ports; in turns, so that both see the same machine."""
    rates = [(rate(ours, count), rate(theirs, count)) for _ in range(ROUNDS)]
    return median(one for one, _ in rates), median(other for _, other in rates)


def rate(port: int, count: int) -> float:
    """Requests per second of `count` clients that ask without a pause."""
    with clients(str(port), count, 0, SHAPE, "json") as seen:
        time.sleep(ASK_S)
    assert not any(one["failed"] for one in seen)
    spans = [span for one in seen for span in one["spans"]]
    seconds = (max(end for _, end in spans) - min(begin for begin, _ in spans)) / 1e6
    return float(len(spans) / seconds)


@contextmanager
def mlserver(program: Path, model: Path) -> Iterator[int]:
    """Run MLServer with `model`; yield its HTTP port."""
    folder, ports = model.parent, free_ports(3)
    names = ("http_port", "grpc_port", "metrics_port")
    settings = dict(zip(names, ports, strict=True)) | {
        "host": "127.0.0.1",
        "parallel_workers": 0,
        "debug": False,
        "logging_settings": None,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "onnx_model.py").write_text(RUNTIME)
    (folder / "model-settings.json").write_text(
        json.dumps(
            {
                "name": SLOT,
                "implementation": "onnx_model.OnnxModel",
                "parameters": {"uri": str(model)},
            }
        )
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(program), "start", str(folder)],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(folder)},
            start_new_session=True,
        )
    try:
        wait_until_it_answers(process, ports[0], folder / "log")
        yield ports[0]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline, body = time.monotonic() + START_S, json_request(SHAPE)
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with connect(str(port)) as one:
                if ask(one, body):
                    return
        except OSError:
            pass  # it starts
        time.sleep(0.2)
    raise RuntimeError(f"MLServer does not answer: {log.read_text()[-2000:]}")


def installed() -> Path | None:
    """Return MLServer's program, installed where it is not; None, and why, on failure."""
    folder = CACHE / "venv"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        wanted = ["mlserver", f"onnxruntime=={onnxruntime.__version__}"]
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        try:
            subprocess.run([*pip, *wanted], check=True, timeout=INSTALL_S)
        except (subprocess.SubprocessError, OSError) as error:
            print(f"  MLServer is left out: it cannot be installed: {error}")
            return None
        (folder / "complete").touch()
    return folder / "bin" / "mlserver"


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports
