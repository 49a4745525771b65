"""The road not taken: `python -m bench._agent_fastapi MODEL SOCKET` serves it by FastAPI.

The least that answers a binary V2 request over uvicorn with httptools, to compare with.
"""

import json
import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request, Response


def make_app(path: str) -> FastAPI:
    """Return an application that runs the model at `path`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )
    app = FastAPI()

    @app.post("/v2/models/{model}/infer")
    async def infer(model: str, request: Request) -> Response:
        body = await request.body()
        length = int(request.headers["inference-header-content-length"])
        tensor = json.loads(body[:length])["inputs"][0]
        x = np.frombuffer(body, np.float32, offset=length).reshape(tensor["shape"])
        y = session.run(["y"], {tensor["name"]: x})[0]
        out = {
            "name": "y",
            "datatype": "FP32",
            "shape": list(y.shape),
            "parameters": {"binary_data_size": y.nbytes},
        }
        head = json.dumps({"model_name": model, "outputs": [out]}).encode()
        return Response(
            head + y.tobytes(),
            media_type="application/octet-stream",
            headers={"Inference-Header-Content-Length": str(len(head))},
        )

    return app


if __name__ == "__main__":
    app = make_app(sys.argv[1])
    uvicorn.run(app, uds=sys.argv[2], http="httptools", log_level="error")
