"""What a reference device exchanges with the server: tasks, files, answers, results."""

from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from modelfleet_agent.enrol import Enrolment
from modelfleet_agent.errors import RefusedError, RetryableError
from modelfleet_agent.trust.state import TrustState
from modelfleet_agent.web import Site
from modelfleet_manifests.document import NotUnderstood, cap_of
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.evaluation import KIND, Evaluation, open_evaluation
from modelfleet_manifests.header import check_address
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.topics import Address

PATH = "/api/v1/evaluations"
_BINARY = {"Content-Type": "application/octet-stream"}
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)


@dataclass(frozen=True)
class Office:
    """The server, for one device; used by one thread at a time."""

    site: Site
    me: Enrolment

    def next(self, trust: TrustState, now: int) -> Evaluation | None:
        """Return what is to be evaluated next, verified; None where nothing is.

        Args:
            trust: Names the director's keys.
            now: Unix ms.

        Raises:
            RetryableError: `E_UNREACHABLE`, `E_CUT`, `E_HTTP`; `E_EPOCH`: it can only be
                judged with newer metadata.
            RefusedError: The document is not for this device, or nobody signed it.
        """
        with self.site.exchange("GET", f"{PATH}/next") as response:
            if response.status == HTTPStatus.NO_CONTENT:
                return None
            if response.status != HTTPStatus.OK:
                raise _failed(response.status, "asked for an evaluation")
            envelope = response.read(cap_of(KIND) + 1)
        try:
            document = open_evaluation(envelope, [PublicKey(one) for one in trust.director])
            header = document.header
            address = Address(KIND, device=self.me.device)
            check_address(header, address, fleet=self.me.fleet, enrolment=self.me.enrolment)
        except ManifestError as error:
            raise RefusedError(error.code, str(error)) from error
        if isinstance(document, NotUnderstood):
            what = f"the evaluation needs {document.feature}: upgrade the agent"
            raise RefusedError("E_AGENT_TOO_OLD", what)
        if header.epoch > trust.epoch:
            raise RetryableError("E_EPOCH", f"epoch {header.epoch} is not known yet")
        if header.expires <= now:
            raise RefusedError("E_EXPIRED", "the evaluation has expired")
        return document

    def answer(self, job: str, answers: Path) -> None:
        """Send the answers of an evaluation.

        Raises:
            RetryableError: `E_UNREACHABLE`, `E_CUT`, `E_HTTP`, `E_READ`.
            RefusedError: `E_GONE`: the server does not wait for it any more.
        """
        try:
            body = answers.read_bytes()
        except OSError as error:
            what = f"the answers cannot be read: {error.strerror}"
            raise RetryableError("E_READ", what) from error
        self._send("PUT", f"{PATH}/{job}/answers", body)

    def report(self, job: str, envelope: bytes) -> None:
        """Send the signed result; raises as `answer`."""
        self._send("POST", f"{PATH}/{job}/result", envelope)

    def _send(self, method: str, path: str, body: bytes) -> None:
        with self.site.exchange(method, path, headers=_BINARY, body=body) as response:
            status = response.status
            response.read()
        if status in _GONE:
            raise RefusedError("E_GONE", "the server does not wait for this evaluation")
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise _failed(status, "answered an evaluation")


def _failed(status: int, what: str) -> RetryableError:
    return RetryableError("E_HTTP", f"the server said {status} when the device {what}")
