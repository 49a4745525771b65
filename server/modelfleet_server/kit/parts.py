"""What the composition root made, found again by its type."""

from typing import TypeVar, cast

Part = TypeVar("Part")


class Parts:
    """A typed shelf: one object per class. Filled by `app` before the first request."""

    def __init__(self) -> None:
        self._shelf: dict[type, object] = {}

    def put(self, part: object, kind: type | None = None) -> None:
        """Put `part` on the shelf under its class, or under `kind`, a class it extends."""
        self._shelf[kind or type(part)] = part

    def get(self, kind: type[Part]) -> Part:
        """Return the part of class `kind`.

        Raises:
            LookupError: The composition root did not make one: a defect.
        """
        part = self.find(kind)
        if part is None:
            raise LookupError(f"no {kind.__name__} among the server's parts; see wiring.py")
        return part

    def find(self, kind: type[Part]) -> Part | None:
        """Return the part of class `kind`, None if this process has none."""
        return cast(Part | None, self._shelf.get(kind))
