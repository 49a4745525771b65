"""What is begun before its phase, so that nobody waits for it: patching and the self-test.

A patch is applied while it comes; the self-test's interpreter starts and imports while
patches are applied. Both run in the limited children that would do it later, their results
count only in the phase that asks for them, and nothing of it is journalled: what a power
cut ends is begun anew. After a restart in the middle of a download nothing is begun early,
so that what takes a device down is found in the phase that counts for it.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from modelfleet_agent import fsio
from modelfleet_agent.clock import monotonic_s
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.link.partial import Progress
from modelfleet_agent.runtime import selftest
from modelfleet_agent.runtime.limits import Child
from modelfleet_agent.runtime.patch import Patching, Spec
from modelfleet_agent.store import Record

log = logging.getLogger(__name__)

MIB = 1 << 20
SOON_S = 10.0  # a child does not wait longer than about that for a download
TOLD_EVERY = 1 << 20
ROOM = 128 * MIB  # memory that stays free beside what is begun early


class Ahead:
    """Of one piece of work on a slot. Its children die with the engine's thread."""

    def __init__(self, memory: Callable[[], int], reserve: int) -> None:
        """Nothing is begun.

        Args:
            memory: Says how many bytes of memory may still be taken.
            reserve: Bytes that stay free on the file system.
        """
        self._memory = memory
        self._reserve = reserve
        self._patching: Patching | None = None
        self._test: Child | None = None

    def follow(self, spec: Spec, *, size: int, memory: int) -> Progress:
        """Return what is to be told of the download of a patch; it begins to apply it.

        Args:
            spec: What is to be made of it; the patch grows.
            size: Bytes of the patch.
            memory: Bytes that applying it takes.
        """
        began, spoilt = monotonic_s(), False
        first = last = told = 0

        def progress(have: int, _length: int) -> None:
            nonlocal first, last, told, spoilt
            mine = self._patching is not None and self._patching.spec is spec
            first = first or have
            if have <= last:  # it began anew: what was read of it is worth nothing
                spoilt = True
                if mine:
                    self._drop_patching()
            last = have
            if spoilt or have < min(told, size):
                return
            told = have + TOLD_EVERY
            came, left = have - first, size - have
            if not mine and left * (monotonic_s() - began) <= SOON_S * came:
                mine = self._begin_patching(spec, left, memory)
            if mine and self._patching:
                self._patching.grown(have)

        return progress

    def take_patching(self, spec: Spec) -> Patching | None:
        """Return what applies this very patch already; its download is complete."""
        begun = self._patching
        if begun is None or begun.spec != spec:
            return None
        self._patching = None
        return begun

    def prepare_test(self, record: Record, wall_s: float) -> None:
        """Start the self-test's child, which waits; where there is memory for it."""
        if self._test or self._memory() < ROOM:
            return
        try:
            self._test = selftest.begin(record, wall_s=wall_s)
        except RetryableError as error:  # the phase that needs it tries again, and tells
            log.info("MF_AHEAD the self-test: %s", error)

    def take_test(self) -> Child | None:
        """Return the self-test's child, which is the caller's from then on."""
        test, self._test = self._test, None
        return test

    def drop(self) -> None:
        """End what nobody asked for."""
        self._drop_patching()
        if test := self.take_test():
            test.abandon()

    def _begin_patching(self, spec: Spec, left: int, memory: int) -> bool:
        if self._patching or self._memory() < memory + ROOM:
            return False
        try:
            folder, need = Path(spec.new).parent, left + spec.length
            fsio.require_space(folder, need, reserve=self._reserve)
            self._patching = Patching(spec)
        except RetryableError as error:  # it is applied in its phase, which tells
            log.info("MF_AHEAD the patch: %s", error)
            return False
        return True

    def _drop_patching(self) -> None:
        begun, self._patching = self._patching, None
        try:
            if begun:
                begun.abandon()
        except RetryableError as error:  # the next one writes over what is left
            log.warning("MF_AHEAD %s", error)
