"""What the agent keeps on disk: verified files, records of releases, slots.

    store/<sha256>                     files, read-only, never changed in place
    incoming/<sha256>                  partial downloads
    releases/<key>.json                what a release consists of (`record.Record`)
    releases/<key>/<name>              hard links into `store/` under the files' own names,
                                       only where a model consists of several files
    slots/<slot>/current, previous     symbolic links to a record, flipped by rename

Everything here is idempotent and may be cut at any instant; `Store.recover` clears up.
"""

from modelfleet_agent.store.record import FileEntry, Placed, PlacedFile, Record
from modelfleet_agent.store.slots import Slots
from modelfleet_agent.store.store import Store
from modelfleet_agent.store.sweep import Swept, sweep

__all__ = [
    "FileEntry",
    "Placed",
    "PlacedFile",
    "Record",
    "Slots",
    "Store",
    "Swept",
    "sweep",
]
