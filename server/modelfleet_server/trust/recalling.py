"""Composes recalls: tombstones for a release, for its files, or for a range of versions."""

from dataclasses import dataclass

from sqlmodel import Session

from modelfleet_manifests.digests import is_digest
from modelfleet_manifests.names import split_path
from modelfleet_manifests.recalls import Tombstone, VersionRange, is_range, parse_range
from modelfleet_manifests.release import Release, read_release
from modelfleet_server.kit.errors import ConflictError, InvalidError, NotFoundError
from modelfleet_server.kit.ids import new_id
from modelfleet_server.trust import repository, store
from modelfleet_server.trust.domain import Kind, State
from modelfleet_server.trust.proposing import Draft, check_reason, in_force, open_proposal
from modelfleet_server.trust.tables import Proposal

RECALL_ROLE = {Kind.REVOCATION: "revocations", Kind.STOP: "stops"}
MAX_TITLE = 500


@dataclass(frozen=True, slots=True)
class Recalled:
    """What is recalled.

    Attributes:
        kind: `release`, `digest` or `range`.
        name: Release id, SHA-256 of a file, or the name of a range.
        words: For people.
        files: Digests of files that are recalled with it.
    """

    kind: str
    name: str
    words: str
    files: tuple[str, ...] = ()

    def paths(self, role: str) -> list[str]:
        """Return the paths of its tombstones in `revocations` or `stops`."""
        files = [Tombstone(role, "digest", digest) for digest in self.files]
        return [one.path for one in (Tombstone(role, self.kind, self.name), *files)]


def find_recalled(
    session: Session, name: str, *, allow_unlisted: bool = False, with_files: bool = False
) -> Recalled:
    """Return what a release id, the digest of a file, or a range of versions stands for.

    Args:
        session: Any.
        name: 64 hexadecimal digits, or a range such as `demo/digits@>=1.0.0,<1.2.0`.
        allow_unlisted: Take a digest or a range that no release belongs to.
        with_files: Of a release: its files too, wherever else they are listed.

    Raises:
        InvalidError: It is written as none of these, or files are asked for without a
            release.
        BadNameError: It is a range, but not well-formed.
        NotFoundError: No release has this id, lists such a file or is in the range.
    """
    found = _find(session, name)
    if found is None and not allow_unlisted:
        raise NotFoundError(
            f"no release is {name}, and none lists such a file",
            "A tombstone for it would recall nothing; check what you wrote.",
            name=name,
        )
    if found is None:
        found = Recalled("digest", name, f"file {name[:12]}…")
        if is_range(name):
            found = _ranged(parse_range(name), 0)
    if not with_files:
        return found
    if found.kind != "release":
        raise InvalidError(f"{found.words} is no release that has files", "Name a release.")
    row = store.find_release(session, found.name)
    files = _files(read_release(row.data)) if row else []
    words = f"{found.words} with its {len(files)} files"
    return Recalled("release", found.name, words, tuple(files))


def propose_recall(
    session: Session,
    kind: Kind,
    what: Recalled,
    reason: str,
    *,
    actor: str,
    now_ms: int,
) -> Proposal:
    """Propose tombstones: a revocation blocks installs, a stop also ends what runs.

    Args:
        session: Writing.
        kind: `REVOCATION` or `STOP`.
        what: From `find_recalled`.
        reason: For people, at most 200 characters; travels to every device.
        actor: `str(Actor)`.
        now_ms: Unix milliseconds.

    Raises:
        InvalidError: The reason is empty, too long or not printable.
        ConflictError: It is recalled already.
        ProposalPendingError: An open proposal changes the same role.
    """
    role = RECALL_ROLE[kind]
    check_reason(reason)
    tombstones = in_force(session, role, now_ms)
    paths = [path for path in what.paths(role) if path not in tombstones.targets]
    if not paths:
        raise ConflictError(
            f"{what.words} is in the list of {role} already", path=what.paths(role)[0]
        )
    for path in paths:
        repository.add_target(tombstones, path, b"", {"reason": reason})
    verb = "revoke" if kind is Kind.REVOCATION else "stop"
    return open_proposal(
        session,
        Draft({role: tombstones}, dict.fromkeys(paths, b"")),
        Proposal(
            id=new_id(),
            kind=kind,
            state=State.OPEN,
            title=f"{verb} {what.words}: {reason}"[:MAX_TITLE],
            subject=what.name,
            proposed_by=actor,
            created_ms=now_ms,
        ),
    )


def _find(session: Session, name: str) -> Recalled | None:
    if is_range(name):
        return _find_range(session, parse_range(name))
    if not is_digest(name):
        raise InvalidError(
            f"{name!r} is neither a release id, nor a digest, nor a range of versions",
            "Write 64 lower-case hexadecimal digits (see: modelfleet release list), or"
            " a range such as demo/digits@>=1.0.0,<1.2.0.",
        )
    row = store.find_release(session, name)
    if row is not None:
        release = read_release(row.data)
        return Recalled("release", name, f"{release.model} {release.version}")
    for one in store.all_releases(session):
        release = read_release(one.data)
        for variant in release.variants:
            if any(file.digest == name for file in variant.files):
                words = f"{release.model} {release.version} {variant.name}"
                return Recalled("digest", name, f"file {name[:12]}… ({words})")
    return None


def _find_range(session: Session, versions: VersionRange) -> Recalled | None:
    paths = [path for path, _ in store.release_paths(session)]
    listed = sum(versions.covers(*split_path(path)) for path in paths)
    return _ranged(versions, listed) if listed else None


def _ranged(versions: VersionRange, listed: int) -> Recalled:
    words = f"{versions} ({listed} releases so far)"
    return Recalled("range", versions.name, words)


def _files(release: Release) -> list[str]:
    return sorted({file.digest for one in release.variants for file in one.files})
