"""What waits on disk for the server: `[outbox]` of the settings file."""

from typing import Annotated

import msgspec
from msgspec import Meta

Kibibytes = Annotated[int, Meta(ge=16, le=1 << 24)]


class OutboxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Budgets of what could not be sent yet.

    Attributes:
        telemetry_kb: KiB of telemetry; beyond it the oldest batches go.
        reports_kb: KiB of reports; none is ever removed, but beyond it a new one is only
            made where what serves or what failed is otherwise than the last one says.
    """

    telemetry_kb: Kibibytes = 4096
    reports_kb: Kibibytes = 4096
