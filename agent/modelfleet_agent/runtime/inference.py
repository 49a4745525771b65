"""Inference requests of the Open Inference Protocol V2: decode, run, encode."""

from http import HTTPStatus
from typing import Any

import msgspec

from modelfleet_agent.clock import monotonic_us
from modelfleet_agent.runtime.answers import Answer, Answers, classes_of
from modelfleet_agent.runtime.exchange import (
    Request,
    RequestError,
    Response,
    encode,
    failure,
    unpacked,
)
from modelfleet_agent.runtime.largebody import HEADER_LENGTH
from modelfleet_agent.runtime.serving import Serving
from modelfleet_agent.runtime.session import Session, brief
from modelfleet_agent.runtime.slot import Resident
from modelfleet_agent.runtime.tensors import (
    InTensor,
    OutTensor,
    TensorError,
    TensorSpec,
    decode_inputs,
    encode_output,
)


class OutWish(msgspec.Struct):
    """An output that the client asks for."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct):
    """The JSON part of an inference request; unknown fields are left alone, as V2 says."""

    inputs: list[InTensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[OutWish] = []


class InferResponse(msgspec.Struct, omit_defaults=True):
    """The JSON part of an inference response."""

    model_name: str
    model_version: str
    parameters: dict[str, str]
    outputs: list[OutTensor]
    id: str | None = None


_decoder = msgspec.json.Decoder(InferRequest)


def lease(serving: Serving, model: str, version: str | None) -> Resident:
    """Return the active session of slot `model` with a lease on it.

    Raises:
        RequestError: 404: there is none, or it is not `version`.
    """
    resident = None if model in serving.closed else serving.lease(model)
    if resident is None and model in serving.draining:
        what = f"slot {model!r} is loading; try again in a moment"
        raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, what)
    if resident is None:
        raise RequestError(HTTPStatus.NOT_FOUND, f"no model is active in slot {model!r}")
    if version is not None and resident.session.record.version != version:
        resident.give_back()
        what = f"slot {model!r} runs {resident.session.record.version}, not {version!r}"
        raise RequestError(HTTPStatus.NOT_FOUND, what)
    return resident


def infer(
    serving: Serving, answers: Answers, request: Request, *, model: str, version: str | None
) -> Response:
    """Answer one inference request; never raises for what a client sends."""
    try:
        wish, tail = _split(request)
        resident = lease(serving, model, version)
    except RequestError as error:
        return failure(error.status, error.what)
    try:
        return _run(serving, resident, answers, wish, tail)
    except TensorError as error:
        return failure(HTTPStatus.BAD_REQUEST, str(error))
    finally:
        resident.give_back()


def _run(
    serving: Serving,
    resident: Resident,
    answers: Answers,
    wish: InferRequest,
    tail: memoryview,
) -> Response:
    began = monotonic_us()
    session = resident.session
    outputs = _wanted(session.outputs, wish)
    feeds = decode_inputs(wish.inputs, tail, session.inputs)
    ran_from = monotonic_us()
    try:
        with serving.watchdog.watching() as options:
            arrays = session.run(feeds, [spec.name for spec, _ in outputs], options)
    except Exception as error:
        if type(error).__name__ == "InvalidArgument":  # such as two shapes that disagree
            raise TensorError(
                f"the model does not take these inputs: {brief(error)}"
            ) from error
        resident.counters.count(monotonic_us() - began, failed=True)
        return failure(
            HTTPStatus.INTERNAL_SERVER_ERROR, f"the model failed: {brief(error)}"
        )
    run_us = monotonic_us() - ran_from
    pairs = [
        encode_output(spec, array, binary=binary)
        for (spec, binary), array in zip(outputs, arrays, strict=True)
    ]
    if wish.id and (classes := classes_of(arrays[0])):
        answers.remember(wish.id, Answer(resident.counters, classes))
    resident.counters.count(monotonic_us() - began, failed=False, run_us=run_us)
    return _inferred(resident, wish, pairs)


def _inferred(
    resident: Resident, wish: InferRequest, pairs: list[tuple[OutTensor, bytes]]
) -> Response:
    head = encode(
        InferResponse(
            id=wish.id,
            model_name=resident.counters.slot,
            model_version=resident.session.record.version,
            parameters=parameters_of(resident.session),
            outputs=[out for out, _ in pairs],
        )
    )
    blocks = [data for out, data in pairs if out.parameters]
    if not blocks:
        return Response(HTTPStatus.OK, [head])
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return Response(HTTPStatus.OK, [head, *blocks], "application/octet-stream", headers)


def _split(request: Request) -> tuple[InferRequest, memoryview]:
    body = memoryview(unpacked(request))
    text = request.headers.get(HEADER_LENGTH, str(len(body)))
    if not text.isascii() or not text.isdigit() or int(text) > len(body):
        what = f"{HEADER_LENGTH} {text!r} is not a length within the body"
        raise RequestError(HTTPStatus.BAD_REQUEST, what)
    try:
        return _decoder.decode(body[: int(text)]), body[int(text) :]
    except ValueError as error:
        what = f"the request is not a V2 inference request: {error}"
        raise RequestError(HTTPStatus.BAD_REQUEST, what) from error


def _wanted(specs: list[TensorSpec], wish: InferRequest) -> list[tuple[TensorSpec, bool]]:
    default = bool(wish.parameters.get("binary_data_output"))
    if not wish.outputs:
        return [(spec, default) for spec in specs]
    known = {spec.name: spec for spec in specs}
    chosen = []
    for out in wish.outputs:
        if out.name not in known:
            raise TensorError(f"output {out.name!r} is not one of {sorted(known)}")
        if "classification" in out.parameters:
            raise TensorError(f"output {out.name!r}: classification is not supported")
        chosen.append((known[out.name], bool(out.parameters.get("binary_data", default))))
    return chosen


def parameters_of(session: Session) -> dict[str, str]:
    """Return what every answer says of the release that gave it."""
    return names_of(session.record.release, session.record.digest)


def names_of(release: str, digest: str) -> dict[str, str]:
    """Return release id and variant digest under their names in answers."""
    return {"modelfleet_release": release, "modelfleet_digest": digest}
