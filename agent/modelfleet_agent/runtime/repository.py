"""What V2's extensions tell of slots: index, load and unload, configuration, statistics.

Which release a slot runs is the fleet's to decide, never a local client's. `load` and
`unload` therefore open and close a slot to local requests, where the device's settings
allow that at all; the release stays in memory, and a closed slot answers 404.
"""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from modelfleet_agent.runtime.exchange import Request, RequestError, Response, reply
from modelfleet_agent.runtime.inference import lease
from modelfleet_agent.runtime.messages import ReleaseStatistics
from modelfleet_agent.runtime.serving import Serving
from modelfleet_agent.runtime.session import Session
from modelfleet_agent.runtime.slot import Slot
from modelfleet_agent.runtime.tensors import TensorSpec

EXTENSIONS = ["model_repository", "model_configuration", "statistics"]
US = 1_000


class IndexWish(msgspec.Struct):
    """What `index` is asked for: with `ready` only what answers."""

    ready: bool = False


_index_decoder = msgspec.json.Decoder(IndexWish)


def index(serving: Serving, request: Request) -> Response:
    """Answer `POST /v2/repository/index`.

    Raises:
        RequestError: 400: the body is no wish.
    """
    try:
        wish = _index_decoder.decode(request.body) if request.body else IndexWish()
    except ValueError as error:
        raise RequestError(HTTPStatus.BAD_REQUEST, f"index: {error}") from error
    rows = [_row(serving, name, slot) for name, slot in sorted(serving.slots.items())]
    ready = [row for row in rows if row["state"] == "READY"]
    return reply(ready if wish.ready else rows)


def _row(serving: Serving, name: str, slot: Slot) -> dict[str, str]:
    active = slot.active
    if active is None:
        return {"name": name, "state": "UNAVAILABLE", "reason": "no release is active"}
    row = {"name": name, "version": active.session.record.version}
    if name in serving.closed:
        return row | {"state": "UNAVAILABLE", "reason": "unloaded by a local client"}
    return row | {"state": "READY", "reason": ""}


def control(serving: Serving, model: str, *, opens: bool, allowed: bool) -> Response:
    """Answer `POST /v2/repository/models/{model}/load` or `/unload`.

    Raises:
        RequestError: 400: the slot is not there, or local clients may not do this.
    """
    slot = serving.slots.get(model)
    word = "load" if opens else "unload"
    if slot is None or slot.active is None:
        what = f"failed to {word} {model!r}: the fleet put no release into that slot"
        raise RequestError(HTTPStatus.BAD_REQUEST, what)
    if opens and model not in serving.closed:
        return reply({})  # it answers already
    if not allowed:
        what = f"failed to {word} {model!r}: the fleet decides; see --local-control"
        raise RequestError(HTTPStatus.BAD_REQUEST, what)
    if opens:
        serving.closed = serving.closed - {model}
    else:
        serving.closed = serving.closed | {model}
    return reply({})


def configuration(model: str, session: Session) -> dict[str, object]:
    """Return the model's configuration, as far as it means something here."""
    return {
        "name": model,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": 0,  # the first axis is the model's own
        "input": list(map(_tensor, session.inputs)),
        "output": list(map(_tensor, session.outputs)),
        "version_policy": {"specific": {"versions": [session.record.version]}},
    }


def _tensor(spec: TensorSpec) -> dict[str, object]:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": list(spec.shape)}


def statistics(serving: Serving, model: str | None, version: str | None) -> Response:
    """Answer `GET /v2/models[/{model}[/versions/{version}]]/stats`.

    Raises:
        RequestError: 404: there is no such model.
    """
    if model is not None:
        lease(serving, model, version).give_back()
    rows = [
        _statistics_row(row)
        for row in serving.statistics().releases
        if model in (None, row.slot) and version in (None, row.version)
    ]
    return reply({"model_stats": rows})


def _statistics_row(row: ReleaseStatistics) -> Mapping[str, object]:
    good = row.requests - row.errors
    nothing = {"count": 0, "ns": 0}
    return {
        "name": row.slot,
        "version": row.version,
        "last_inference": row.last_ms,
        "inference_count": good,
        "execution_count": good,
        "inference_stats": {
            "success": {"count": good, "ns": (row.latency_sum_us - row.errors_us) * US},
            "fail": {"count": row.errors, "ns": row.errors_us * US},
            "queue": nothing,
            "compute_input": nothing,
            "compute_infer": {"count": good, "ns": row.run_sum_us * US},
            "compute_output": nothing,
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [],
        "memory_usage": [],
        "parameters": {"modelfleet_release": row.release, "modelfleet_digest": row.digest},
    }
