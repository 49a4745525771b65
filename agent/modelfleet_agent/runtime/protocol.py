"""The Open Inference Protocol V2, without sockets: a request in, a response out.

`Protocol.answer` decides at once all but inference, which it returns as a job: the server
runs it where it does not block others.
"""

import re
from collections.abc import Callable
from http import HTTPStatus

import msgspec

from modelfleet_agent.runtime import repository
from modelfleet_agent.runtime.answers import Answers
from modelfleet_agent.runtime.counters import prometheus
from modelfleet_agent.runtime.exchange import (
    Job,
    Request,
    RequestError,
    Response,
    failure,
    reply,
)
from modelfleet_agent.runtime.inference import infer, lease, names_of, parameters_of
from modelfleet_agent.runtime.serving import Serving
from modelfleet_agent.runtime.tensors import TensorSpec

EXTENSIONS = [
    "binary_tensor_data",
    *repository.EXTENSIONS,
    "modelfleet_feedback",
    "modelfleet_metrics",
]
QUICK_BYTES = 1 << 14


class Feedback(msgspec.Struct):
    """A label that came back: one class, or one for each row."""

    id: str
    label: int | list[int]


_feedback_decoder = msgspec.json.Decoder(Feedback)


class Protocol:
    """Answers requests from the slots of `serving`."""

    def __init__(
        self,
        serving: Serving,
        answers: Answers,
        *,
        version: str,
        local_control: bool = False,
    ) -> None:
        """Take what answers.

        Args:
            serving: The slots.
            answers: The memory for labels.
            version: Of ONNX Runtime.
            local_control: Local clients may close a slot to requests.
        """
        self._serving = serving
        self._answers = answers
        self._version = version
        self._local_control = local_control

    def answer(self, request: Request) -> Response | Job:
        """Answer `request`, or say how to; never raises for what a client sends."""
        try:
            for method, pattern, handler in _ROUTES:
                if match := pattern.fullmatch(request.path):
                    if request.method not in (
                        method,
                        "HEAD" if method == "GET" else method,
                    ):
                        what = f"{request.path} takes {method}, not {request.method}"
                        return failure(HTTPStatus.METHOD_NOT_ALLOWED, what)
                    return handler(self, request, **match.groupdict())
        except RequestError as error:
            return failure(error.status, error.what)
        return failure(HTTPStatus.NOT_FOUND, f"there is nothing at {request.path}")

    def server(self, _request: Request) -> Response:
        """`GET /v2`."""
        content = {"name": "modelfleet", "version": self._version, "extensions": EXTENSIONS}
        return reply(content)

    def live(self, _request: Request) -> Response:
        """`GET /v2/health/live`."""
        return reply({"live": True})

    def ready(self, _request: Request) -> Response:
        """`GET /v2/health/ready`: every slot answers, and there is one."""
        slots = self._serving.slots.values()
        if not slots or not all(slot.active for slot in slots):
            return failure(HTTPStatus.SERVICE_UNAVAILABLE, "no model is active yet")
        return reply({"ready": True})

    def metrics(self, _request: Request) -> Response:
        """`GET /metrics`."""
        text = prometheus(self._serving.statistics())
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(HTTPStatus.OK, [text.encode()], kind)

    def model_ready(self, _request: Request, model: str, version: str | None) -> Response:
        """`GET /v2/models/{model}[/versions/{version}]/ready`."""
        lease(self._serving, model, version).give_back()
        return reply({"name": model, "ready": True})

    def metadata(self, _request: Request, model: str, version: str | None) -> Response:
        """`GET /v2/models/{model}[/versions/{version}]`."""
        resident = lease(self._serving, model, version)
        session = resident.session
        resident.give_back()  # what follows reads no model
        content = {
            "name": model,
            "versions": [session.record.version],
            "platform": "onnxruntime_onnx",
            "inputs": list(map(_spec, session.inputs)),
            "outputs": list(map(_spec, session.outputs)),
            "parameters": parameters_of(session),
        }
        return reply(content)

    def configuration(self, _request: Request, model: str, version: str | None) -> Response:
        """`GET /v2/models/{model}[/versions/{version}]/config`."""
        resident = lease(self._serving, model, version)
        session = resident.session
        resident.give_back()
        return reply(repository.configuration(model, session))

    def statistics(
        self, _request: Request, model: str | None = None, version: str | None = None
    ) -> Response:
        """`GET /v2/models[/{model}[/versions/{version}]]/stats`."""
        return repository.statistics(self._serving, model, version)

    def index(self, request: Request) -> Response:
        """`POST /v2/repository/index`."""
        return repository.index(self._serving, request)

    def load(self, _request: Request, model: str, verb: str) -> Response:
        """`POST /v2/repository/models/{model}/load` or `/unload`."""
        return repository.control(
            self._serving, model, opens=verb == "load", allowed=self._local_control
        )

    def infer(self, request: Request, model: str, version: str | None) -> Job:
        """`POST /v2/models/{model}[/versions/{version}]/infer`."""
        lease(
            self._serving, model, version
        ).give_back()  # 404 at once, without waiting in a queue
        slot = self._serving.slots.get(model)
        active = slot.active if slot else None
        quick = (
            active is not None
            and active.session.quick
            and len(request.body) <= QUICK_BYTES
            and "content-encoding" not in request.headers  # it may unpack to megabytes
        )

        def run() -> Response:
            return infer(
                self._serving, self._answers, request, model=model, version=version
            )

        return Job(run, quick)

    def feedback(self, request: Request) -> Response:
        """`POST /v2/feedback {id, label}`."""
        try:
            wish = _feedback_decoder.decode(request.body)
            labels = [wish.label] if isinstance(wish.label, int) else wish.label
            found = self._answers.label(wish.id, labels)
        except ValueError as error:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"feedback: {error}") from error
        if found is None:
            what = f"no answer waits for a label under the id {wish.id!r}"
            raise RequestError(HTTPStatus.NOT_FOUND, what)
        answer, hits = found
        record = answer.counters.record
        return reply(
            {
                "id": wish.id,
                "model_name": answer.counters.slot,
                "labelled": len(labels),
                "hits": hits,
                "parameters": names_of(record.release, record.digest),
            }
        )


def _spec(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


_MODEL = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
_ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Response | Job]]] = [
    ("POST", re.compile(_MODEL + "/infer"), Protocol.infer),
    ("GET", re.compile("/v2/?"), Protocol.server),
    ("GET", re.compile("/v2/health/live"), Protocol.live),
    ("GET", re.compile("/v2/health/ready"), Protocol.ready),
    ("GET", re.compile(_MODEL + "/ready"), Protocol.model_ready),
    ("GET", re.compile("/v2/models/stats"), Protocol.statistics),
    ("GET", re.compile(_MODEL), Protocol.metadata),
    ("GET", re.compile(_MODEL + "/config"), Protocol.configuration),
    ("GET", re.compile(_MODEL + "/stats"), Protocol.statistics),
    ("POST", re.compile("/v2/repository/index"), Protocol.index),
    (
        "POST",
        re.compile("/v2/repository/models/(?P<model>[^/]+)/(?P<verb>load|unload)"),
        Protocol.load,
    ),
    ("POST", re.compile("/v2/feedback"), Protocol.feedback),
    ("GET", re.compile("/metrics"), Protocol.metrics),
]
