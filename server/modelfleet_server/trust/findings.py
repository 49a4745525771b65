"""What an approver found out about variants, against what the release says. Pure.

A release states of each variant how it is vouched for, and whoever signs it has found that
or better: `rebuilt`, the same bytes from the approver's own master; `audited`, the same
graph, and every number is what the master's rounds to. What is `waived` was not reproduced;
it takes one of the group `build-waiver`, where the officers named one.
"""

from collections.abc import Iterator, Mapping

from modelfleet_manifests.errors import ManifestError, SignatureError
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.release import Release, Variant, read_release
from modelfleet_server.kit.errors import ForbiddenError
from modelfleet_server.trust import delegations, rolefile
from modelfleet_server.trust.approver import ApproverKeys
from modelfleet_server.trust.approving import InForce, ProposalCopy
from modelfleet_server.trust.changes import RefusedError
from modelfleet_server.trust.domain import Finding

RANK = {"": 0, "waived": 0, "audited": 1, "rebuilt": 2}
LOUD = "NOT REPRODUCED"


class NotReproducedError(RefusedError):
    """A variant is not what the release says of it: it must not be signed so."""

    code = "not-reproduced"


def claims_of(proposal: ProposalCopy) -> Iterator[Release]:
    """Yield the releases that a proposal lists; call it after `describe`."""
    for path, data in proposal.targets.items():
        if path.startswith("m/"):
            yield read_release(data)


def to_rebuild(release: Release) -> list[Variant]:
    """Return the variants that the release does not give up on."""
    return [one for one in release.variants if one.vouched != "waived"]


def judge(release: Release, findings: Mapping[str, Finding]) -> list[str]:
    """Return in words how each variant was found, or that it was not reproduced.

    Args:
        release: Proposed.
        findings: By variant, of all in `to_rebuild`.

    Raises:
        NotReproducedError: One is less than the release says.
    """
    worse = {}
    lines = []
    for one in release.variants:
        found = findings.get(one.name, Finding("", ("nobody built it again",)))
        if one.vouched == "waived":
            lines.append(f"{LOUD}: {one.name}; the release says that it is waived.")
        elif RANK[found.word] < RANK[one.vouched]:
            worse[one.name] = found
        else:
            lines.append(f"Built again here: {one.name}, {found.word}.")
    if worse:
        said = "; ".join(
            f"{name} ({found.word or ', '.join(found.reasons)})"
            for name, found in worse.items()
        )
        name, found = next(iter(worse.items()))
        reference = f"{release.model}@{release.version}"
        raise NotReproducedError(
            f"{LOUD}: {said}",
            "Do not sign it until you know why. To go on: withdraw it, then modelfleet "
            f"release propose {reference} --vouch {name}={found.word or 'waived'}.",
            variants={name: list(found.reasons) for name, found in worse.items()},
        )
    return lines


def check_waiver(
    proposal: ProposalCopy, in_force: InForce, keys: ApproverKeys, release: Release
) -> None:
    """Return if these keys may sign a release, whether or not it waives something.

    Raises:
        ForbiddenError: It does, and nobody of the group `build-waiver` has signed or signs.
    """
    if all(one.vouched != "waived" for one in release.variants):
        return
    group = waivers_of(proposal, in_force)
    mine = {key.public.hex for key in keys.by_role.values()}
    if not group or not mine.isdisjoint(group):
        return
    if _has_signed(group, proposal, release.model):
        return
    raise ForbiddenError(
        f"{release.model} {release.version} has variants that nobody reproduced",
        "Somebody of the group build-waiver has to sign it first.",
    )


def waivers_of(proposal: ProposalCopy, in_force: InForce) -> list[str]:
    """Return the public keys of the group `build-waiver`, none where there is no group."""
    payload = proposal.roles.get("targets")
    targets = (
        in_force.roles.get("targets")
        if payload is None
        else rolefile.parse_targets(payload)
    )
    return delegations.waivers_of(targets) if targets is not None else []


def _has_signed(group: list[str], proposal: ProposalCopy, role: str) -> bool:
    payload = proposal.roles[role]
    for text in group:
        key = PublicKey(text)
        signature = proposal.signatures.get(role, {}).get(key.key_id, "")
        try:
            key.verify(payload, bytes.fromhex(signature))
        except (SignatureError, ManifestError, ValueError):
            continue
        return True
    return False
