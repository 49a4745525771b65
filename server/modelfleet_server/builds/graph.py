"""Walks an ONNX file: every graph, node and tensor in it, however deep they hide."""

import heapq
from collections.abc import Iterable, Iterator

from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
)

from modelfleet_server.builds.errors import ModelSizeError, NotOnnxError

MAX_DEPTH = 16
"""Graphs in graphs (bodies of If, Loop and Scan); ONNX files of the field have 1 to 3."""
MAX_NODES = 50_000
"""Nodes once all functions are expanded; 100,000 take ONNX Runtime 11 s to load."""

OpKey = tuple[str, str]
"""Domain ("" for ai.onnx) and operator type."""


def domain_of(name: str) -> str:
    """Return the short name of an operator domain: "" and "ai.onnx" are the same."""
    return "" if name == "ai.onnx" else name


def op_key(node: NodeProto) -> OpKey:
    """Return what `node` computes."""
    return domain_of(node.domain), node.op_type


def walk_nodes(nodes: Iterable[NodeProto], depth: int = 0) -> Iterator[NodeProto]:
    """Yield `nodes` and those of the graphs in their attributes.

    Raises:
        ModelSizeError: Graphs are nested deeper than `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise ModelSizeError(
            f"the model nests graphs deeper than {MAX_DEPTH}",
            "Export it with its control flow unrolled.",
        )
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in _graphs_of(attribute):
                yield from walk_nodes(graph.node, depth + 1)


def walk_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor of the file: weights, and constants in attributes."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)
        for attribute in function.attribute_proto:
            yield from _tensors_of_attribute(attribute)
    for training in model.training_info:
        yield from _tensors_of_graph(training.initialization)
        yield from _tensors_of_graph(training.algorithm)


def count_nodes(model: ModelProto) -> int:
    """Return how many nodes there are once functions are expanded, without expanding them.

    Raises:
        ModelSizeError: More than `MAX_NODES`, or nested too deep.
        NotOnnxError: A function calls itself.
    """
    functions = {(domain_of(f.domain), f.name): f for f in model.functions}
    sizes: dict[OpKey, int] = {}

    def total(nodes: Iterable[NodeProto], path: tuple[OpKey, ...]) -> int:
        count = 0
        for node in walk_nodes(nodes):
            key = op_key(node)
            count += size(key, functions[key], path) if key in functions else 1
            if count > MAX_NODES:
                raise ModelSizeError(
                    f"the model has more than {MAX_NODES} nodes",
                    "Simplify it before publishing, for example with onnxslim.",
                )
        return count

    def size(key: OpKey, function: FunctionProto, path: tuple[OpKey, ...]) -> int:
        if key in path:
            raise NotOnnxError(
                f"the function {key[1]} of the model calls itself", "Export it again."
            )
        if len(path) > MAX_DEPTH:
            raise ModelSizeError(
                f"functions of the model call each other deeper than {MAX_DEPTH}",
                "Export it with its functions expanded.",
            )
        if key not in sizes:
            sizes[key] = total(function.node, (*path, key))
        return sizes[key]

    return total(model.graph.node, ())


def sort_nodes(graph: GraphProto) -> None:
    """Put every node behind those it needs, and otherwise keep the order.

    The format asks for it; ONNX Runtime does not, and its fp16 converter does not do it.

    Raises:
        NotOnnxError: The nodes form a cycle.
    """
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needs = [
        {
            makers[name]
            for inner in walk_nodes([node])
            for name in inner.input
            if name in makers
        }
        - {index}
        for index, node in enumerate(graph.node)
    ]
    followers: list[list[int]] = [[] for _ in graph.node]
    for index, needed in enumerate(needs):
        for before in needed:
            followers[before].append(index)
    missing = [len(needed) for needed in needs]
    ready = [index for index, count in enumerate(missing) if count == 0]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for follower in followers[index]:
            missing[follower] -= 1
            if missing[follower] == 0:
                heapq.heappush(ready, follower)
    if len(order) != len(graph.node):
        raise NotOnnxError("the nodes of the model form a cycle", "Export it again.")
    nodes = [graph.node[index] for index in order]
    del graph.node[:]
    graph.node.extend(nodes)


def drop_unused_domains(model: ModelProto) -> None:
    """Import only the domains that are used: a device may not know the others.

    ONNX Runtime's optimizer imports every domain that it knows.
    """
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    used = {domain_of(node.domain) for nodes in bodies for node in walk_nodes(nodes)}
    kept = [i for i in model.opset_import if domain_of(i.domain) in used | {""}]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _graphs_of(attribute: AttributeProto) -> Iterator[GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _tensors_of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from _tensors_of_attribute(attribute)


def _tensors_of_attribute(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for item in (*sparse, *attribute.sparse_tensors):
        yield item.values
        yield item.indices
    for graph in _graphs_of(attribute):
        yield from _tensors_of_graph(graph)
