"""Which role files are signed by enough of those who may, from the fleet's first root on.

What the signer names in a snapshot it has verified itself, as a device would: whoever has
the API process, but no approver's key, gets nothing new named.
"""

from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError

from modelfleet_manifests.digests import sha256
from modelfleet_server.trust import delegations, rolefile
from modelfleet_server.trust.signer.domain import LacksError, RefusedError, RoleFile
from modelfleet_server.trust.signer.memory import Memory

MALFORMED = (ValueError, KeyError, TypeError, AttributeError)
"""What python-tuf raises on metadata of the wrong shape."""


class Vouched:
    """The verified roles of one fleet.

    Args:
        memory: Where they are kept.
        fleet: SHA-256 of the first root.
    """

    def __init__(self, memory: Memory, fleet: str) -> None:
        self._memory, self._fleet = memory, fleet
        self._read: dict[str, Root | Targets] = {}

    def take(self, file: RoleFile) -> None:
        """Verify a role's file and keep it, unless a newer one is held.

        Call it inside `Memory.change`, and `forget` if that is undone.

        Raises:
            LacksError: Who signs the role is not known yet, or a root before it.
            RefusedError: It is not signed by enough of them, or not well-formed.
        """
        held = self._memory.held(file.role)
        if held is not None and held.data == file.data:
            return
        try:
            metadata = rolefile.read_file(file.data)
            signed = metadata.signed
            if not isinstance(signed, Root if file.role == "root" else Targets):
                raise _refused(file.role, f"it is of type {signed.type}")
            if held is not None and signed.version < held.version:
                return
            self._check(file, metadata)
        except (RepositoryError, DeserializationError, *MALFORMED) as error:
            raise _refused(file.role, str(error)) from None
        self._memory.hold(file.role, signed.version, file.data)
        self._read[file.role] = signed

    def forget(self) -> None:
        """Read again what the memory holds."""
        self._read.clear()

    def get(self, role: str) -> Root | Targets:
        """Return the newest verified root, or targets role.

        Raises:
            LacksError: None was learnt.
        """
        if role not in self._read:
            held = self._memory.held(role)
            if held is None:
                raise LacksError(f"the signer was never shown the role {role}", role=role)
            self._read[role] = rolefile.read_file(held.data).signed
        return self._read[role]

    def targets(self, role: str) -> Targets:
        """Return the newest verified targets role.

        Raises:
            LacksError: None was learnt.
        """
        found = self.get(role)
        if not isinstance(found, Targets):
            raise _refused(role, "it lists no targets")
        return found

    def _check(self, file: RoleFile, metadata: Metadata[Any]) -> None:
        """Return if enough of those who may have signed `file`."""
        if file.role == "root":
            self._check_root(file, metadata)
            return
        self._check_by(self._judge(file.role), file.role, metadata)

    def _judge(self, role: str) -> Root | Targets:
        name = delegations.delegator_of(role)
        return self.get(name or "root")

    def _check_root(self, file: RoleFile, metadata: Metadata[Any]) -> None:
        new = metadata.signed
        if new.version == 1:
            if sha256(file.data) != self._fleet:
                raise _refused("root", "it begins another fleet")
            return
        old = self.get("root")
        if new.version != old.version + 1:
            if new.version == old.version:
                raise _refused("root", f"version {new.version} is there already")
            raise LacksError(f"root {old.version + 1} comes first", role="root")
        for judge in (old, new):
            self._check_by(judge, "root", metadata)

    def _check_by(self, judge: Root | Targets, role: str, metadata: Metadata[Any]) -> None:
        groups = []
        if "/" in role or isinstance(judge, Targets):
            groups = delegations.groups_of(self.targets("targets"), role)
        signatures = {key: one.signature for key, one in metadata.signatures.items()}
        lacking = delegations.missing_signers(
            judge, role, metadata.signed_bytes, signatures, groups
        )
        if lacking:
            raise _refused(role, f"it lacks {lacking} signatures")


def _refused(role: str, why: str) -> RefusedError:
    return RefusedError(f"the signer does not take the role {role}: {why}", role=role)
