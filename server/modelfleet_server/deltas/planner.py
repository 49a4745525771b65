"""The job that makes deltas: ask what devices run, weigh, choose, make in batches.

Each step is kept by the job engine, so a server that dies goes on with the next one.
Limited children weigh and make; no transaction is open meanwhile.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from modelfleet_manifests.release import Release
from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.builds import children
from modelfleet_server.builds.errors import ChildError
from modelfleet_server.builds.messages import BuiltPatch, Limits, Pair
from modelfleet_server.catalog import service as catalog
from modelfleet_server.deltas import service
from modelfleet_server.deltas.domain import Budget, Candidate, Event, One, choose, split
from modelfleet_server.deltas.service import KIND, Order, Result
from modelfleet_server.deltas.store import Beside, Need, find_needs
from modelfleet_server.jobs.kinds import Kind
from modelfleet_server.jobs.run import Run
from modelfleet_server.kit.clock import Clock, now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import NotFoundError

MOST_PAIRS = 256
"""So many pairs one plan looks at, those with the most devices and bytes first."""
BATCH_COUNT, BATCH_BYTES = 8, 256 << 20
"""What one child makes at most; results of a batch are on offer before the next begins."""

T = TypeVar("T")


class Weight(msgspec.Struct, frozen=True):
    """About how many bytes a delta would have, or why that is not known."""

    length: int = 0
    problem: str = ""


class Chosen(msgspec.Struct, frozen=True):
    """A delta that is to be made, as `Candidate`."""

    new: str
    old: str
    size: int
    beside: Beside | None = None


@dataclass(frozen=True)
class Planner:
    """Does the jobs of kind `KIND`.

    Attributes:
        database: Where devices and deltas are.
        blobs: Where files come from and patches go.
        scratch: A directory for the children.
        budget: What one plan may take.
        clock: Unix milliseconds.
    """

    database: Database
    blobs: BlobStore
    scratch: Path
    budget: Budget
    clock: Clock = now_ms

    @property
    def kind(self) -> Kind:
        """What to register with the job engine."""
        return Kind(KIND, self.work)

    def work(self, run: Run) -> None:
        """Make the deltas that save most, as far as the budget goes.

        Raises:
            NotFoundError: The release is not signed, or not any more.
        """
        order = run.payload(Order)
        run.progress("asking what devices run", 0, 1)
        needs = run.step("needs", lambda: self._ask(order), list[Need])
        run.progress(f"weighing {len(needs)} deltas", 0, 1 + len(needs))
        weights = run.step("weigh", lambda: self._weigh(run, needs), list[Weight])
        chosen = run.step("plan", lambda: self._plan(order, needs, weights), list[Chosen])
        done = spent = 0
        for number, batch in enumerate(_batches(chosen)):
            run.progress(f"making {len(chosen)} deltas", done, len(chosen))
            left = spent < self.budget.cpu_ms
            do = partial(self._make if left else self._postpone, run, batch)
            spent += run.step(f"batch {number}", do, int)
            done += len(batch)

    def _ask(self, order: Order) -> list[Need]:
        with self.database.read() as session:
            release = _release(catalog.releases_by_id(session, [order.release]), order)
            row = catalog.find_version(session, release.model, release.version)
            needs = find_needs(session, release, catalog.slots_of(row) if row else [])
        with self.database.write() as session:
            opened = service.open_needs(session, order, needs, at_ms=self.clock())
        here = [one for one in opened if self.blobs.exists(one.old)]
        return sorted(here, key=lambda one: -one.devices * one.whole)[:MOST_PAIRS]

    def _weigh(self, run: Run, needs: Sequence[Need]) -> list[Weight]:
        def weigh(batch: Sequence[Need]) -> list[Weight]:
            pairs = [self._pair(one) for one in batch]
            ask = children.Ask(stop=run.stop)
            weights = children.weigh(pairs, self._limits(batch), ask)
            return [Weight(length=one) for one in weights]

        return [
            weight
            for batch in _batches(needs)
            for weight in _each(batch, weigh, lambda why: Weight(problem=why))
        ]

    def _plan(
        self, order: Order, needs: Sequence[Need], weights: Sequence[Weight]
    ) -> list[Chosen]:
        known = {
            (one.new, one.old): (one, weight)
            for one, weight in zip(needs, weights, strict=True)
        }
        choice = choose(
            [_candidate(one, it.length) for one, it in known.values() if not it.problem],
            self.budget,
        )
        now = self.clock()
        with self.database.write() as session:
            release = _release(catalog.releases_by_id(session, [order.release]), order)
            for pair, (need, weight) in known.items():
                service.plan(
                    session, (order.release, release), need, weight.length, at_ms=now
                )
                if weight.problem:
                    service.move(session, pair, Event.FAIL, weight.problem, at_ms=now)
            for one in choice.drop:
                why = f"about {one.estimate:,} bytes; the packed file has {one.whole:,}"
                service.move(session, (one.new, one.old), Event.DROP, why, at_ms=now)
            service.postpone(
                session, [(it.new, it.old) for it in choice.postpone], at_ms=now
            )
        return [
            Chosen(one.new, one.old, one.size, known[one.new, one.old][0].beside)
            for one in choice.make
        ]

    def _make(self, run: Run, batch: Sequence[Chosen]) -> int:
        """Make a batch and offer it; return the CPU time that it took, ms."""

        def make(some: Sequence[Chosen]) -> list[BuiltPatch]:
            limits, ask = self._limits(some), children.Ask(stop=run.stop)
            with tempfile.TemporaryDirectory(prefix="deltas-", dir=self.scratch) as name:
                pairs = [self._pair(one) for one in some]
                made = children.make_patches(pairs, limits, Path(name), ask)
                for one in made:
                    if not one.problem:
                        self.blobs.put(Path(name) / one.name, one.digest)
            return made

        self.scratch.mkdir(parents=True, exist_ok=True)
        made = _each(batch, make, lambda why: BuiltPatch(problem=why))
        results = [
            Result(one.new, one.old, it.digest, it.length, it.method, it.memory, it.problem)
            for one, it in zip(batch, made, strict=True)
        ]
        with self.database.write() as session:
            service.settle(session, results, self.blobs, at_ms=self.clock())
        return sum(one.cpu_ms for one in made)

    def _postpone(self, _run: Run, batch: Sequence[Chosen]) -> int:
        with self.database.write() as session:
            pairs = [(one.new, one.old) for one in batch]
            service.postpone(session, pairs, at_ms=self.clock())
        return 0

    def _pair(self, one: Need | Chosen) -> Pair:
        old, new = self.blobs.path_of(one.old), self.blobs.path_of(one.new)
        pair = Pair(old=str(old), new=str(new))
        if one.beside is None:
            return pair
        graphs = (one.beside.new_graph, one.beside.old_graph)
        new_graph, old_graph = (it and str(self.blobs.path_of(it)) for it in graphs)
        return msgspec.structs.replace(
            pair, name=one.beside.name, new_graph=new_graph, old_graph=old_graph
        )

    def _limits(self, batch: Sequence[Need | Chosen]) -> Limits:
        sizes = sum(one.size + self.blobs.get(one.old).length for one in batch)
        return children.limits_for(sizes)


def _batches(ones: Sequence[One]) -> Iterator[list[One]]:
    return split(ones, count=BATCH_COUNT, length=BATCH_BYTES)


def _each(
    batch: Sequence[One],
    do: Callable[[Sequence[One]], list[T]],
    fail: Callable[[str], T],
) -> list[T]:
    """Do all at once; where that kills the child, each alone: one is to blame, not all."""
    try:
        return do(batch)
    except ChildError as error:
        if len(batch) == 1:
            return [fail(error.what)]
        return [result for one in batch for result in _each([one], do, fail)]


def _candidate(need: Need, estimate: int) -> Candidate:
    return Candidate(
        new=need.new,
        old=need.old,
        devices=need.devices,
        size=need.size,
        whole=need.whole,
        estimate=estimate,
    )


def _release(found: dict[str, Release], order: Order) -> Release:
    release = found.get(order.release)
    if release is None:
        raise NotFoundError(
            f"there is no signed release {order.release[:12]}",
            "See what there is: modelfleet release list.",
        )
    return release
