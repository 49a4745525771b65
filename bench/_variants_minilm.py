"""A sentence embedder (MiniLM, 6 layers) as ONNX, from the weights that its package ships.

The package has the weights of PyTorch and no ONNX file; a BERT encoder is few operators.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LAYERS, HEADS, WIDTH = 6, 12, 384
EPSILON = 1e-12
LENGTH = 64


class Encoder:
    """The graph while it grows; every method adds nodes and returns the output's name."""

    def __init__(self, weights: dict[str, NDArray[np.float32]]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def const(self, name: str, array: NDArray[Any]) -> str:
        self.tensors[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def ints(self, *values: int) -> str:
        return self.const("i" + "_".join(map(str, values)), np.array(values, np.int64))

    def linear(self, x: str, name: str) -> str:
        weight = self.const(f"{name}.weight", self.weights[f"{name}.weight"].T)
        bias = self.const(f"{name}.bias", self.weights[f"{name}.bias"])
        return self.op("Add", self.op("MatMul", x, weight), bias)

    def norm(self, x: str, name: str) -> str:
        scale = self.const(f"{name}.weight", self.weights[f"{name}.weight"])
        bias = self.const(f"{name}.bias", self.weights[f"{name}.bias"])
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=EPSILON)

    def embed(self) -> str:
        base = "embeddings."
        words = self.const("words", self.weights[base + "word_embeddings.weight"])
        kind = self.weights[base + "token_type_embeddings.weight"][0]
        place = self.weights[base + "position_embeddings.weight"] + kind
        size = self.op("Slice", self.op("Shape", "input_ids"), self.ints(1), self.ints(2))
        places = self.op("Slice", self.const("places", place), self.ints(0), size)
        x = self.op("Add", self.op("Gather", words, "input_ids"), places)
        return self.norm(x, base + "LayerNorm")

    def heads(self, x: str, name: str, order: list[int]) -> str:
        split = self.ints(0, 0, HEADS, WIDTH // HEADS)
        return self.op(
            "Transpose", self.op("Reshape", self.linear(x, name), split), perm=order
        )

    def layer(self, x: str, number: int, mask: str) -> str:
        base = f"encoder.layer.{number}."
        query, value = (
            self.heads(x, f"{base}attention.self.{part}", [0, 2, 1, 3])
            for part in ("query", "value")
        )
        key = self.heads(x, f"{base}attention.self.key", [0, 2, 3, 1])
        root = self.const("root", np.array((WIDTH // HEADS) ** 0.5, np.float32))
        scores = self.op("Div", self.op("MatMul", query, key), root)
        shares = self.op("Softmax", self.op("Add", scores, mask), axis=-1)
        mixed = self.op("Transpose", self.op("MatMul", shares, value), perm=[0, 2, 1, 3])
        joined = self.op("Reshape", mixed, self.ints(0, 0, WIDTH))
        out = self.linear(joined, f"{base}attention.output.dense")
        x = self.norm(self.op("Add", out, x), f"{base}attention.output.LayerNorm")
        wide = self.gelu(self.linear(x, f"{base}intermediate.dense"))
        out = self.linear(wide, f"{base}output.dense")
        return self.norm(self.op("Add", out, x), f"{base}output.LayerNorm")

    def gelu(self, x: str) -> str:
        root, one, half = (
            self.const(name, np.array(value, np.float32))
            for name, value in (("root2", 2**0.5), ("one", 1), ("half", 0.5))
        )
        erf = self.op("Erf", self.op("Div", x, root))
        return self.op("Mul", self.op("Mul", x, half), self.op("Add", erf, one))

    def model(self) -> onnx.ModelProto:
        """The mean of all tokens' vectors, of length one."""
        live = self.op("Cast", "attention_mask", to=TensorProto.FLOAT)
        lost = self.op("Sub", self.const("one", np.array(1, np.float32)), live)
        much = self.const("much", np.array(-10_000, np.float32))
        mask = self.op("Unsqueeze", self.op("Mul", lost, much), self.ints(1, 2))
        x = self.embed()
        for number in range(LAYERS):
            x = self.layer(x, number, mask)
        shown = self.op("Unsqueeze", live, self.ints(2))
        total = self.op("ReduceSum", self.op("Mul", x, shown), self.ints(1), keepdims=0)
        length = self.op("ReduceL2", total, axes=[1], keepdims=1)
        self.nodes.append(helper.make_node("Div", [total, length], ["embedding"]))
        free = ["n", "tokens"]
        graph = helper.make_graph(
            self.nodes,
            "minilm",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, free)
                for name in ("input_ids", "attention_mask")
            ],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", WIDTH])],
            list(self.tensors.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        return model


def export(package: Path, out: Path) -> None:
    """Write the ONNX file of the weights in `package`."""
    weights = read_safetensors(package / "model" / "model.safetensors")
    onnx.save(Encoder(weights).model(), out)


def read_safetensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the float tensors: 8 bytes of length, JSON, then all numbers."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    found = {}
    for name, entry in json.loads(data[8:end]).items():
        if entry.get("dtype") == "F32":
            first, last = entry["data_offsets"]
            array = np.frombuffer(data[end + first : end + last], np.float32)
            found[name] = array.reshape(entry["shape"])
    return found


def tokenize(texts: Iterable[str], vocabulary: Path) -> dict[str, NDArray[np.int64]]:
    """Return word pieces of lower-case text, the longest first, as BERT has them."""
    known = {word: i for i, word in enumerate(vocabulary.read_text().splitlines())}
    rows = []
    for text in texts:
        words = re.findall(r"[a-z0-9]+|[^\sa-z0-9]", text.lower())
        pieces = [piece for word in words for piece in _pieces(word, known)]
        rows.append([known["[CLS]"], *pieces[: LENGTH - 2], known["[SEP]"]])
    ids = np.zeros((len(rows), LENGTH), np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)], mask[index, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


def _pieces(word: str, known: dict[str, int]) -> list[int]:
    found, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in known:
                found.append(known[piece])
                start = end
                break
        else:
            return [known["[UNK]"]]
    return found
