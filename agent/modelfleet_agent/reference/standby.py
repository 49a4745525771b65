"""Asks for evaluations where the director made this a reference device.

Most devices never are: what an evaluation needs is imported with the first one.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from modelfleet_agent.clock import monotonic_s
from modelfleet_manifests.profiles import Facts

if TYPE_CHECKING:
    from modelfleet_agent.reference.evaluator import Evaluator

EVERY_S = 30.0
"""How often a device that has nothing to evaluate asks for something."""


class Standby:
    """Used by the supervisor's thread."""

    def __init__(
        self, make: Callable[[], "Evaluator"], *, every_s: float = EVERY_S
    ) -> None:
        """Nothing is asked yet.

        Args:
            make: Makes what evaluates.
            every_s: Seconds between two questions.
        """
        self._make, self._every_s = make, every_s
        self._evaluator: Evaluator | None = None
        self._at = float("-inf")

    def look(self, facts: Facts | None, *, is_reference: bool) -> None:
        """Ask where it is time.

        Args:
            facts: Of the device; None until they are known.
            is_reference: The director's labels say so.
        """
        if not is_reference or facts is None or monotonic_s() < self._at:
            return
        self._at = monotonic_s() + self._every_s
        self._evaluator = self._evaluator or self._make()
        self._evaluator.begin(facts)

    def close(self) -> None:
        """End what goes on."""
        if self._evaluator:
            self._evaluator.close()
