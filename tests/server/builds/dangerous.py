"""Models that hurt whoever opens them, and good ones of kinds that are easily refused.

The dangerous ones are those that were seen to hang, to grow, or to be accepted by ONNX's
checker and by ONNX Runtime.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tests.server.builds.models import dense


def nodes(*made: tuple[str, str, str]) -> ModelProto:
    return dense(*(helper.make_node(op, [i], [o]) for op, i, o in made))


def chain(count: int) -> ModelProto:
    names = ["x", *(f"n{i}" for i in range(count - 1)), "h"]
    pairs = pairwise(names)
    return nodes(*(("Neg", before, after) for before, after in pairs))


def laughing(levels: int = 12, calls: int = 10) -> ModelProto:
    """Functions that each call the next ten times: 3 KB, a million million nodes."""
    model = dense(
        helper.make_node("F0", ["x"], ["h"], domain="own"), extra_imports=(("own", 1),)
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    for level in range(levels):
        op, domain = (f"F{level + 1}", "own") if level < levels - 1 else ("Neg", "")
        names = ["a", *(f"t{n}" for n in range(calls - 1)), "b"]
        body = [
            helper.make_node(op, [names[n]], [names[n + 1]], domain=domain)
            for n in range(calls)
        ]
        model.functions.append(
            helper.make_function("own", f"F{level}", ["a"], ["b"], body, imports)
        )
    return model


def recursive() -> ModelProto:
    model = dense(
        helper.make_node("F", ["x"], ["h"], domain="own"), extra_imports=(("own", 1),)
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    body = [helper.make_node("F", ["a"], ["b"], domain="own")]
    model.functions.append(helper.make_function("own", "F", ["a"], ["b"], body, imports))
    return model


def expanding() -> ModelProto:
    """48 GB by Expand."""
    shape = helper.make_tensor("s", TensorProto.INT64, [3], [3 << 30, 1, 4])
    return dense(
        helper.make_node("Constant", [], ["shape"], value=shape),
        helper.make_node("Expand", ["x", "shape"], ["much"]),
        helper.make_node("ReduceSum", ["much"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["h"]),
    )


def growing() -> ModelProto:
    """A loop that doubles its tensor in every round."""
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, None)
    twice = helper.make_tensor_value_info("twice", TensorProto.FLOAT, None)
    flag = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Concat", ["v", "v"], ["twice"], axis=0),
        ],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), flag, value],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), twice],
    )
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    return dense(
        helper.make_node("Constant", [], ["true"], value=yes),
        helper.make_node("Loop", ["", "true", "x"], ["much"], body=body),
        helper.make_node("ReduceSum", ["much"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["h"]),
    )


def nan_weights() -> ModelProto:
    return dense(weights=np.full((4, 3), np.nan, np.float32))


def divided() -> ModelProto:
    return dense(
        helper.make_node("Sub", ["x", "x"], ["zero"]),
        helper.make_node("Div", ["x", "zero"], ["h"]),
    )


def zero_divided() -> ModelProto:
    """Only a black picture shows it."""
    return dense(helper.make_node("Div", ["x", "x"], ["h"]))


def guessing() -> ModelProto:
    return dense(helper.make_node("RandomNormalLike", ["x"], ["h"]))


def still_training() -> ModelProto:
    model = dense(helper.make_node("Dropout", ["x", "", "train"], ["h"]))
    model.graph.initializer.append(helper.make_tensor("train", TensorProto.BOOL, [], [1]))
    return model


def counting_to_the_end_of_time() -> ModelProto:
    """It does end, after 2 to the power of 62 rounds."""
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, ["n", 4])
    flag = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]),
         helper.make_node("Sin", ["v"], ["sin"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), flag, value],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sin", TensorProto.FLOAT, ["n", 4]),
        ],
    )  # fmt: skip
    rounds = helper.make_tensor("t", TensorProto.INT64, [], [1 << 62])
    return dense(
        helper.make_node("Constant", [], ["rounds"], value=rounds),
        helper.make_node("Loop", ["rounds", "", "x"], ["h"], body=body),
    )


def scanned() -> ModelProto:
    """A hundred rounds that each keep 67 MB."""
    state, out = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "st"
    )
    row = helper.make_tensor_value_info("r", TensorProto.FLOAT, [4])
    wide = helper.make_tensor_value_info("wide", TensorProto.FLOAT, None)
    body = helper.make_graph(
        [helper.make_node("Identity", ["s"], ["t"]),
         helper.make_node("Expand", ["r", "size"], ["wide"])],
        "body", [state, row], [out, wide],
    )  # fmt: skip
    size = helper.make_tensor("a", TensorProto.INT64, [2], [1 << 22, 4])
    rows = helper.make_tensor("b", TensorProto.FLOAT, [100, 4], [0.0] * 400)
    return dense(
        helper.make_node("Constant", [], ["size"], value=size),
        helper.make_node("Constant", [], ["rows"], value=rows),
        helper.make_node("Scan", ["x", "rows"], ["z", "all"], body=body, num_scan_inputs=1),
        helper.make_node("ReduceMean", ["all"], ["mean"], keepdims=0),
        helper.make_node("Add", ["z", "mean"], ["h"]),
    )


def doubling_calls() -> ModelProto:
    """Forty functions that each call the next twice: a billion thousand nodes."""
    return laughing(levels=40, calls=2)


def doubled_over_and_over() -> ModelProto:
    """Sixty times the same tensor behind itself, which shape inference may not notice."""
    names = ["x", *(f"c{i}" for i in range(60))]
    joins = [helper.make_node("Concat", [a, a], [b], axis=0) for a, b in pairwise(names)]
    return dense(
        *joins,
        helper.make_node("ReduceMean", [names[-1]], ["mean"], keepdims=0),
        helper.make_node("Add", ["x", "mean"], ["h"]),
    )


def huge_input() -> ModelProto:
    """A single input of 17 GB."""
    return io_model("ReduceMean", [1, 1 << 20, 1 << 12], [1, 1, 1])


def sequence_output() -> ModelProto:
    model = io_model("SequenceConstruct", ["n", 4], None)
    model.graph.output[0].CopyFrom(
        helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    )
    return model


def no_nodes() -> ModelProto:
    model = io_model("Relu", ["n", 4], ["n", 4])
    del model.graph.node[:]
    return model


def io_model(
    op: str, shape: Sequence[int | str], out: Sequence[int | str] | None
) -> ModelProto:
    """One node between `x` and `y`."""
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"])],
        "io",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def future_opset() -> ModelProto:
    return dense(opset=99)


def future_format() -> ModelProto:
    model = dense()
    model.ir_version = 99
    return model


def unknown_operator() -> ModelProto:
    return nodes(("Frobnicate", "x", "h"))


def foreign_operator() -> ModelProto:
    node = helper.make_node("Secret", ["x"], ["h"], domain="my.company")
    return dense(node, extra_imports=(("my.company", 1),))


def cycle() -> ModelProto:
    return dense(
        helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Neg", ["b"], ["h"]),
    )  # fmt: skip


def oversized() -> ModelProto:
    model = dense()
    model.graph.initializer[0].dims[0] = 1 << 40
    return model


def stateful() -> ModelProto:
    """As voice detectors are: sound, a state that goes in and out, and a rate."""
    tensor, real = helper.make_tensor_value_info, TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["sound"], ["level"], axes=[1], keepdims=1),
            helper.make_node("Sigmoid", ["level"], ["voice"]),
            helper.make_node("Cast", ["rate"], ["pace"], to=real),
            helper.make_node("Div", ["state", "pace"], ["next"]),
        ],
        "stateful",
        [tensor("sound", real, ["n", "length"]), tensor("state", real, [2, "n", 8]),
         tensor("rate", TensorProto.INT64, [])],
        [tensor("voice", real, ["n", 1]), tensor("next", real, [2, "n", 8])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def words_in() -> ModelProto:
    """As text models are: word numbers and a mask of whole numbers, any number of them."""
    tensor, whole = helper.make_tensor_value_info, TensorProto.INT64
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "words"], ["vectors"]),
            helper.make_node("Cast", ["mask"], ["live"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["live", "last"], ["shown"]),
            helper.make_node("Mul", ["vectors", "shown"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "words_axis"], ["sum"], keepdims=0),
            helper.make_node("ReduceSum", ["shown", "words_axis"], ["count"], keepdims=0),
            helper.make_node("Div", ["sum", "count"], ["mean"]),
        ],
        "words",
        [tensor("words", whole, ["n", "t"]), tensor("mask", whole, ["n", "t"])],
        [tensor("mean", TensorProto.FLOAT, ["n", 5])],
        [
            numpy_helper.from_array(np.ones((20, 5), np.float32), "table"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "words_axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def linear_classifier() -> ModelProto:
    """As scikit-learn's converters write them, without the map at the end."""
    node = helper.make_node(
        "LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml",
        coefficients=[1.0, 2, 3, 4, -1, -2, -3, -4], intercepts=[0.0, 0],
        classlabels_ints=[0, 1], post_transform="SOFTMAX",
    )  # fmt: skip
    model = io_model("Relu", ["n", 4], None)
    model.graph.node[0].CopyFrom(node)
    tensor = helper.make_tensor_value_info
    del model.graph.output[:]
    model.graph.output.extend(
        [tensor("label", TensorProto.INT64, ["n"]),
         tensor("scores", TensorProto.FLOAT, ["n", 2])]
    )  # fmt: skip
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return model
