"""The witness: reads the active files again, so that what is reported is evidence."""

import logging

from modelfleet_agent.clock import monotonic_s
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.supervisor.desk import Desk
from modelfleet_agent.supervisor.slots import Checked
from modelfleet_agent.update.engine import Engine
from modelfleet_agent.update.phases import Phase
from modelfleet_manifests.digests import is_digest

log = logging.getLogger(__name__)

VERIFY_S = 300.0  # hashing waits for a load that goes on


class Witness:
    """Hashes what serves. Used by the supervisor's thread.

    Attributes:
        checked: What was found last, by slot.
    """

    def __init__(self, desk: Desk, *, interval_s: float) -> None:
        """Nothing was read yet; `look` reads at least every `interval_s`."""
        self.checked: dict[str, Checked] = {}
        self._desk = desk
        self._interval_s = interval_s
        self._at = 0.0

    def forget(self, slot: str) -> None:
        """What serves in `slot` is another file now."""
        self.checked.pop(slot, None)

    def look(self) -> bool:
        """Read again where it is time; say whether something is otherwise than before."""
        return monotonic_s() >= self._at and self.read()

    def read(self) -> bool:
        """Read the files of every slot; say whether something is otherwise than before.

        A slot that loads right now was read a moment ago, and the child is busy with it.
        """
        self._at = monotonic_s() + self._interval_s
        before = dict(self.checked)
        engines = list(self._desk.engines.values())
        loading = any(
            one.busy and one.entry.phase in {Phase.TRIAL, Phase.RESTORING}
            for one in engines
        )
        if loading or self._desk.tools.runtime.ready is None:
            return False
        for engine in engines:
            if engine.place.serving:
                self._read_slot(engine)
        return self.checked != before

    def _read_slot(self, engine: Engine) -> None:
        slot, rotten = engine.slot, self._desk.keeper.rotten
        try:
            found = self._desk.tools.runtime.verify(slot, timeout_s=VERIFY_S)
        except RetryableError as error:
            log.warning("MF_FILES slot=%s cannot be read: %s", slot, error)
            return
        altered = found.digest if is_digest(found.digest) else found.mapped
        digest = found.mapped if found.intact else altered
        self.checked[slot] = Checked(found.key, digest, found.intact)
        if not found.intact and not engine.busy and slot not in rotten:
            log.error("MF_BIT_ROT slot=%s a file of the active release was altered", slot)
            rotten.add(slot)
