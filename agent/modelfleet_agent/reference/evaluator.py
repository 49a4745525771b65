"""A reference device's work: fetch a candidate, let it answer, sign what came out.

Everything of it lies in a folder of its own, which is emptied after each evaluation: it
takes nothing from the store of what serves, and leaves nothing there.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec import UNSET

from modelfleet_agent import fsio
from modelfleet_agent.clock import Clock
from modelfleet_agent.errors import AgentError, RefusedError, RetryableError
from modelfleet_agent.link.fetch import Fetcher
from modelfleet_agent.reference.office import Office
from modelfleet_agent.runtime import evaluation as child
from modelfleet_agent.store import Record, Store
from modelfleet_agent.store.record import FileEntry, PlacedFile
from modelfleet_agent.trust.state import TrustState
from modelfleet_manifests.evaluation import (
    MAX_ANSWERS,
    Evaluation,
    EvaluationResult,
    Latency,
    Measured,
    seal_result,
)
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.profiles import Facts

FOLDER = "reference"
NONE = "0" * 64
MAX_REASON = 200

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bench:
    """What an evaluator works with.

    Attributes:
        dir: The agent's.
        office: The server.
        key: Of the device's reports.
        trust: Gives the verified metadata.
        fetcher: Makes one that fetches into a store.
        clock: Unix ms.
        notice: Told of what went wrong.
    """

    dir: Path
    office: Office
    key: PrivateKey
    trust: Callable[[], TrustState]
    fetcher: Callable[[Store], Fetcher]
    clock: Clock
    notice: Callable[[AgentError], None]


class Evaluator:
    """Works in a thread of its own; `begin` and `close` are the supervisor's."""

    def __init__(self, bench: Bench) -> None:
        """Forget what a restart left half done: the server asks again."""
        self._bench = bench
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None
        fsio.remove_tree(bench.dir / FOLDER)

    def begin(self, facts: Facts) -> None:
        """Evaluate whatever the server has, unless that goes on already."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(
            target=self._work, args=(facts,), name="reference", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End what goes on."""
        self._cancel.set()
        if self._thread:
            self._thread.join(5)

    def _work(self, facts: Facts) -> None:
        try:
            while not self._cancel.is_set() and self._work_once(facts):
                pass
        except (RetryableError, RefusedError) as error:
            log.warning("MF_EVALUATES %s", error)
            self._bench.notice(error)
        except Exception as error:
            log.exception("MF_DEFECT evaluation")
            self._bench.notice(RetryableError("E_INTERNAL", f"evaluation: {error}"))
        finally:
            self._bench.office.site.close()

    def _work_once(self, facts: Facts) -> bool:
        bench = self._bench
        task = bench.office.next(bench.trust(), bench.clock())
        if task is None:
            return False
        log.info("MF_EVALUATES %s candidate=%s", task.model, task.digest)
        try:
            found, answers = self._evaluate(task)
            result = self._result(task, found, answers, facts)
            if not found.code:
                bench.office.answer(task.job, answers)
            bench.office.report(task.job, seal_result(result, bench.key))
        finally:
            fsio.remove_tree(bench.dir / FOLDER)
        return True

    def _evaluate(self, task: Evaluation) -> tuple[child.Found, Path]:
        """Fetch and run; what the candidate is to blame for is a result, no error."""
        store = Store(self._bench.dir / FOLDER)
        answers = store.root / "answers.npy"
        fetcher = self._bench.fetcher(store)
        for file in (*task.candidate, task.samples):
            fetcher.fetch_file(file.digest, file.length, cancel=self._cancel)
        record = Record(
            release=NONE,
            model=task.model,
            version="0.0.0",
            profile=FOLDER,
            files=tuple(FileEntry(f.name, f.digest, f.length) for f in task.candidate),
        )
        samples = PlacedFile(
            path=str(store.path_of(task.samples.digest)),
            digest=task.samples.digest,
            length=task.samples.length,
        )
        asked = child.Task(
            placed=store.place(record),
            samples=samples,
            count=task.allowance.samples,
            threads=task.allowance.threads,
            answers=str(answers),
        )
        allowed = task.allowance
        found = child.run(
            asked,
            memory_mb=allowed.memory_mb,
            wall_s=allowed.wall_s,
            cancel=self._cancel,
        )
        if not found.code and answers.stat().st_size > MAX_ANSWERS:
            why = f"the answers have more than {MAX_ANSWERS} bytes"
            found = child.Found(code="E_ANSWERS", reason=why)
        return found, answers

    def _result(
        self, task: Evaluation, found: child.Found, answers: Path, facts: Facts
    ) -> EvaluationResult:
        me = self._bench.office.me
        return EvaluationResult(
            fleet=me.fleet,
            device=me.device,
            enrolment=me.enrolment,
            job=task.job,
            candidate=task.digest,
            samples=task.samples.digest,
            code=found.code,
            reason=found.reason[:MAX_REASON],
            measured=UNSET if found.code else _measured(found, answers),
            runtime=found.runtime or facts.runtime,
            provider=found.provider,
            cpu=list(facts.cpu),
        )


def _measured(found: child.Found, answers: Path) -> Measured:
    digest, length = fsio.hash_file(answers)
    p50, p90, p99 = found.latency_us
    return Measured(
        answers=digest,
        length=length,
        samples=found.samples,
        batch=found.batch,
        latency_us=Latency(p50=p50, p90=p90, p99=p99),
        load_ms=found.load_ms,
        memory_kb=found.memory_kib,
        energy_mj=UNSET if found.energy_mj is None else found.energy_mj,
    )
