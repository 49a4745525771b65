"""Records that rotted on disk are written again from what is signed, or let go.

A slot's links name records; one that is damaged keeps `sweep` from knowing which files
are needed, and the slot from going back to what it ran.
"""

import logging
from collections.abc import Iterable

from modelfleet_agent.errors import RetryableError
from modelfleet_agent.store import Record, Slots, Store

log = logging.getLogger(__name__)


def mend(store: Store, slots: Slots, slot: str, known: Iterable[Record]) -> None:
    """Write the slot's damaged records again; forget a previous one that nobody knows.

    Args:
        store: Of the records.
        slots: Of the links.
        slot: Its name.
        known: Records as they were signed, or as the device remembers them.

    Raises:
        RetryableError: The disk is in the way.
    """
    damaged = {key for key in slots.keys(slot) if not _is_sound(store, key)}
    for record in known:
        if record.key in damaged:
            store.put(record)
            damaged.discard(record.key)
            log.warning(
                "MF_DAMAGED slot=%s the record of %s is written again", slot, record.version
            )
    if damaged and slots.forget_previous(slot, damaged):
        log.warning(
            "MF_DAMAGED slot=%s the previous release's record is lost; forgotten", slot
        )


def _is_sound(store: Store, key: str) -> bool:
    try:
        return store.get(key) is not None
    except RetryableError:
        return False
