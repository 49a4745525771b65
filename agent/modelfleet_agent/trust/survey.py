"""From the factory's root to the state that the supervisor reads; pure.

The order in which metadata is verified: the chain of roots, timestamp, snapshot and
targets, each against its floor as soon as its signatures are known to be good; what time it
is; what is revoked and stopped; then, for each release that is asked for, its namespace,
its model and its statement. What expires is judged by the time that was told.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tuf.api.exceptions import DownloadHTTPError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import TargetFile, Targets

from modelfleet_agent.trust import faults
from modelfleet_agent.trust import floors as rules
from modelfleet_agent.trust.asking import NOT_ASKED, ask
from modelfleet_agent.trust.chain import Chain, read_field
from modelfleet_agent.trust.checks import RECALLERS, DelegationError
from modelfleet_agent.trust.floors import Floors
from modelfleet_agent.trust.messages import Answer, Wish
from modelfleet_agent.trust.sight import Sight, expiry_of
from modelfleet_agent.trust.state import Signers, Slot, TrustState, statement_path
from modelfleet_agent.trust.steps import Walk, Write, fetch, read
from modelfleet_agent.trust.tombstones import read_pardons
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import MAX_RELEASE
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.recalls import names_of
from modelfleet_manifests.release import read_release
from modelfleet_manifests.semver import Version

MAX_LISTED = 256
NOT_LISTED, MISMATCH, STATEMENT = "E_NOT_LISTED", "E_MISMATCH", "E_STATEMENT"


class StatementError(RepositoryError):
    """A target that is listed as a release, but is none."""


@dataclass
class Survey:
    """Walks the metadata once, and collects what a new state is made of.

    Attributes:
        root: The fleet's first root.
        before: The state as it was.
        sight: What was seen; of use also where the walk ends early.
        nonce: For the question what time it is.
        answer: What time it is, or why nobody told.
        notes: What is strange and changes nothing, for the log.
    """

    root: bytes
    before: TrustState
    sight: Sight
    nonce: str
    answer: Answer = NOT_ASKED
    notes: list[str] = field(default_factory=list)
    listed: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    @classmethod
    def begin(cls, root: bytes, before: TrustState, floors: Floors, nonce: str) -> "Survey":
        """Return a survey that has seen nothing yet."""
        return cls(root, before, Sight(floors, before.listed), nonce)

    @property
    def floors(self) -> Floors:
        """As far as they have risen."""
        return self.sight.floors

    def walk(self, want: Collection[Wish]) -> Walk[TrustState]:
        """Return the new state; statements of listed releases are on disk by then.

        Args:
            want: What is looked up.

        Raises:
            RepositoryError, DownloadError, AgentError: Nothing is to change.
        """
        chain = Chain(self.root, self.sight)
        yield from chain.refresh()
        yield from self._tell_time(chain)
        recalls = {}
        for role in RECALLERS:
            recalls[role] = yield from self._read_recalls(chain, role)
        self.sight.floors = rules.bury(
            self.floors, recalls["revocations"], recalls["stops"]
        )
        for path, ids in _wishes(want, self.before.listed).items():
            yield from self._look_up(chain, path, ids)
        return self._state(chain.targets)

    def _tell_time(self, chain: Chain) -> Walk[None]:
        """Judge what expires by the time that is told; so far only floors were asked."""
        role = _signers(chain.targets, "time")
        self.answer = yield from ask(role, self.before.fleet, self.nonce)
        told = self.answer.time.time if self.answer.time else 0
        now = max(told, self.floors.clock)
        chain.set_time(now)
        self.sight.judge_expiry(now)

    def _read_recalls(self, chain: Chain, name: str) -> Walk[set[str]]:
        """What a recalling role names; once expired, it only stops new installs."""
        self.sight.expires[name] = 0
        try:
            role = yield from chain.load(name, "targets")
        except ExpiredMetadataError:
            self.notes.append(f"{name} has expired: nothing new is installed")
            return set()
        self.sight.expires[name] = expiry_of(role)
        named, strange = names_of(name, role.targets)
        self.notes += [
            f"{name} names {path}, which this agent does not understand" for path in strange
        ]
        return named

    def _look_up(self, chain: Chain, path: str, ids: Collection[str]) -> Walk[None]:
        """List the release at `path`, or note why a wanted one is not listed.

        Only verified metadata changes what is listed: where a role does not verify, what
        was listed before stays so.
        """
        try:
            info = yield from self._find(chain, path)
            found = info.hashes.get("sha256", "") if info else None
            if info is not None and found in ids:
                yield from _keep_statement(info, path)
        except (RepositoryError, DownloadHTTPError) as error:
            self.notes.append(f"{path}: {error}")
            self.problems.update(dict.fromkeys(ids, faults.code_of(error)))
            held = self.before.listed.get(path)
            if held is not None and not isinstance(error, StatementError):
                self.listed[path] = held
                self.problems.pop(held, None)
            return
        if found is not None and found in ids:
            self.listed[path] = found
        code = NOT_LISTED if found is None else MISMATCH
        self.problems.update({one: code for one in ids if one != found})

    def _find(self, chain: Chain, path: str) -> Walk[TargetFile | None]:
        """Return the target if the model's own role lists it; notes the model's floor."""
        model = "/".join(path.split("/")[1:3])
        namespace = model.partition("/")[0]
        if not _leads_to(chain.targets, path, namespace):
            return None
        above = yield from chain.load(namespace, "targets")
        if not _leads_to(above, path, model):
            return None
        role = yield from chain.load(model, namespace)
        self._read_floor(model, role)
        return role.targets.get(path)

    def _read_floor(self, model: str, role: Targets) -> None:
        floor = role.unrecognized_fields.get("x-floor", "")
        try:
            if floor != "":
                Version(floor)
        except (ManifestError, TypeError) as error:
            raise DelegationError(f"{model} has a floor that is no version") from error
        self.sight.floors = rules.raise_model(self.floors, model, floor, role.version)

    def _state(self, targets: Targets) -> TrustState:
        fields = targets.unrecognized_fields
        pardons, strange = read_pardons(fields.get("x-unrevoke", []))
        self.notes += [f"x-unrevoke names {one}, which is no tombstone" for one in strange]
        return TrustState(
            fleet=self.before.fleet,
            seen=self.before.seen | self.sight.seen,
            expires=self.sight.expires,
            epoch=read_field(fields.get("x-epoch", 0), int, "x-epoch"),
            director=[*_signers(targets, "director").keys.values()],
            slots=read_field(fields.get("x-slots", {}), dict[str, list[Slot]], "x-slots"),
            floors={name: one.floor for name, one in self.floors.models.items()},
            pardons=pardons,
            timekeepers=sorted(_signers(targets, "time").keys.values()),
            recallers={role: _signers(targets, role) for role in RECALLERS},
            listed=self.listed,
            problems=self.problems,
        )


def _keep_statement(info: TargetFile, path: str) -> Walk[None]:
    """Have the statement of a listed release on disk.

    Raises:
        StatementError: It is listed as a release, but is none.
        RepositoryError: Other bytes than were signed.
    """
    release_id = info.hashes["sha256"]
    kept = yield from read(statement_path(release_id))
    if kept is not None and sha256(kept) == release_id:
        return
    if info.length > MAX_RELEASE:
        raise StatementError(f"{path} has {info.length} bytes")
    folder, _, name = path.rpartition("/")
    data = yield from fetch(f"/tuf/targets/{folder}/{release_id}.{name}", info.length)
    info.verify_length_and_hashes(data)
    try:
        release = read_release(data)
    except ManifestError as error:
        raise StatementError(f"{path}: {error}") from error
    if path != f"m/{release.model}/{release.version}/release.json":
        raise StatementError(f"{path} is of {release.model} {release.version}")
    yield Write(statement_path(release_id), data, durable=True)


def _leads_to(role: Targets, path: str, name: str) -> bool:
    """Say whether `role` leaves a target to the role `name`, and to none before it."""
    if path in role.targets or role.delegations is None:
        return False
    first = next(iter(role.delegations.get_roles_for_target(path)), None)
    return first is not None and first[0] == name


def _wishes(want: Collection[Wish], listed: Mapping[str, str]) -> dict[str, set[str]]:
    """What to look up: all that is wanted, and what was listed as far as there is room."""
    wishes: dict[str, set[str]] = {}
    for wish in want:
        wishes.setdefault(wish.path, set()).add(wish.id)
    room = max(MAX_LISTED - len(wishes), 0)
    for path, release_id in list(listed.items())[:room]:
        wishes.setdefault(path, set()).add(release_id)
    return wishes


def _signers(targets: Targets, name: str) -> Signers:
    role = targets.get_delegated_role(name)
    known = targets.delegations.keys if targets.delegations else {}
    keys = {
        one: str(known[one].keyval.get("public", "")) for one in role.keyids if one in known
    }
    return Signers(keys=keys, threshold=role.threshold)
