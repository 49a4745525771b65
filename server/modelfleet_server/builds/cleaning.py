"""Leaves out of a graph what computes nothing; the same bytes every time."""

from collections.abc import Iterable

from onnx import GraphProto, ModelProto, NodeProto

from modelfleet_server.builds.graph import walk_nodes


def clean(model: ModelProto) -> ModelProto:
    """Return `model`, changed in place, with only what its outputs need.

    Names of inputs and outputs stay; notes, metadata and the shapes between are left out,
    and an initializer is no longer also listed as an input.
    """
    graph = model.graph
    _keep(graph, _needed(graph))
    model.doc_string = graph.doc_string = ""
    del model.metadata_props[:]
    for node in walk_nodes(graph.node):
        node.doc_string = ""
        del node.metadata_props[:]
    called = {(node.domain, node.op_type) for node in _everywhere(model)}
    functions = [one for one in model.functions if (one.domain, one.name) in called]
    del model.functions[:]
    model.functions.extend(functions)
    return model


def _needed(graph: GraphProto) -> set[str]:
    """Return the names of all values that the outputs depend on."""
    makers = {name: node for node in graph.node for name in node.output if name}
    needed: set[str] = set()
    open_ = [value.name for value in graph.output]
    while open_:
        name = open_.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in makers:
            # graphs inside use what lies around them
            open_ += [used for one in walk_nodes([makers[name]]) for used in one.input]
            open_ += _results_of_bodies(makers[name])
    return needed


def _results_of_bodies(node: NodeProto) -> list[str]:
    """Return what bodies give back: it may come from around them."""
    return [
        value.name
        for one in walk_nodes([node])
        for attribute in one.attribute
        for body in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else []))
        for value in body.output
    ]


def _keep(graph: GraphProto, needed: set[str]) -> None:
    nodes = [node for node in graph.node if needed & set(node.output)]
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    sparse = [one for one in graph.sparse_initializer if one.values.name in needed]
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    for field, kept in (
        (graph.node, nodes),
        (graph.initializer, tensors),
        (graph.sparse_initializer, sparse),
        (graph.input, inputs),
        (graph.value_info, []),
    ):
        copies = [type(one).FromString(one.SerializeToString()) for one in kept]
        del field[:]
        field.extend(copies)


def _everywhere(model: ModelProto) -> Iterable[NodeProto]:
    yield from walk_nodes(model.graph.node)
    for function in model.functions:
        yield from walk_nodes(function.node)
