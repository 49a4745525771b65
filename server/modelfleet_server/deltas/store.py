"""What devices run and what may be wanted of them, as digests of files."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import func, or_
from sqlmodel import Session, col, select

from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.digests import EMPTY
from modelfleet_manifests.profiles import best_variant, read_facts
from modelfleet_manifests.release import File, Release, Variant
from modelfleet_manifests.topics import PREFIX
from modelfleet_server.catalog import service as catalog
from modelfleet_server.deltas.tables import Delta
from modelfleet_server.devices.domain import DeviceState
from modelfleet_server.devices.tables import Device, SlotState
from modelfleet_server.trust import director as documents
from modelfleet_server.trust.tables import DirectorTopic


class Beside(msgspec.Struct, frozen=True):
    """Where the tensors of a file of external data are told: in the graph that names it.

    Attributes:
        name: What graphs call the file.
        new_graph: Digest of the graph of the new file.
        old_graph: Likewise of the old one; "" where that is a model itself.
    """

    name: str
    new_graph: str
    old_graph: str = ""


class Need(msgspec.Struct, frozen=True):
    """Devices that run `old` and would get `new`. Sizes in bytes.

    Attributes:
        profile: Of the variant that they would get.
        size: Of the new file.
        whole: What each of them fetches without a delta.
        beside: Of external data; None of a graph.
    """

    new: str
    old: str
    profile: str
    devices: int
    size: int
    whole: int
    beside: Beside | None = None


class Cost(NamedTuple):
    """How an update comes (`delta`, `packed`, `full`, `none`), and its bytes."""

    method: str
    length: int


class Runs(NamedTuple):
    """So many devices with these facts run this variant (its digest)."""

    facts_json: str
    digest: str
    devices: int


def find_needs(session: Session, release: Release, slots: Sequence[str]) -> list[Need]:
    """Return which deltas to `release` devices could use, from what they last reported.

    Asked are all that run the model, or anything else in a slot of it.
    """
    statement = (
        select(Device.facts_json, col(SlotState.digest), func.count())
        .join(SlotState, col(SlotState.device) == col(Device.id))
        .where(
            Device.state == DeviceState.ENROLLED,
            col(SlotState.digest).is_not(None),
            col(SlotState.intact).is_(True),
            or_(col(SlotState.model) == release.model, col(SlotState.slot).in_(slots)),
        )
        .group_by(Device.facts_json, col(SlotState.digest))
    )
    rows = [Runs(facts, digest or "", n) for facts, digest, n in session.exec(statement)]
    return count_needs(session, release, rows)


def count_needs(session: Session, release: Release, rows: Iterable[Runs]) -> list[Need]:
    """Return which deltas these devices could use."""
    rows = list(rows)
    known = catalog.variants_by_digest(session, {row.digest for row in rows})
    fitting: dict[str, Variant | None] = {}
    found: Counter[tuple[str, str]] = Counter()
    graphs: dict[tuple[str, str], Beside | None] = {}
    for row in rows:
        if row.facts_json not in fitting:
            facts = read_facts(msgspec.json.decode(row.facts_json))
            fitting[row.facts_json] = best_variant(facts, release.variants)
        variant, runs = fitting[row.facts_json], known.get(row.digest)
        if variant is not None and runs is not None:
            for file, old in zip(variant.files, base_files(variant, runs), strict=True):
                if file.digest != old:
                    found[file.digest, old] += row.devices
                    graphs[file.digest, old] = _beside(variant, file, runs, old)
    files = {
        file.digest: (variant, file)
        for variant in release.variants
        for file in variant.files
    }
    return [
        msgspec.structs.replace(
            _need(session, *files[new], old, devices), beside=graphs[new, old]
        )
        for (new, old), devices in sorted(found.items())
    ]


def _beside(new: Variant, file: File, old: Variant, base: str) -> Beside | None:
    graph = new.files[0].digest
    if file.digest == graph:
        return None
    held = old.files[0].digest
    return Beside(file.name, graph, held if base != held else "")


def base_files(new: Variant, old: Variant) -> list[str]:
    """Return for each file of a variant its likeliest base of another; itself if there."""
    named = {file.name: file.digest for file in old.files}
    here = {file.digest for file in old.files}
    return [
        file.digest if file.digest in here else named.get(file.name, old.files[0].digest)
        for file in new.files
    ]


def cost_of(session: Session, variant: Variant, bases: Sequence[str | None]) -> Cost:
    """Return what a device fetches of a variant that has these files, None for nothing."""
    lengths, methods = [], []
    for file, base in zip(variant.files, bases, strict=True):
        if file.digest == base:
            continue
        whole = whole_length(session, file)
        offer = catalog.find_delta(session, file.digest, base) if base else None
        if offer is not None and offer.length < whole:
            methods.append("delta")
            lengths.append(offer.length)
        else:
            methods.append("packed" if whole < file.length else "full")
            lengths.append(whole)
    golden = whole_length(session, variant.golden.file)
    return Cost(methods[0] if methods else "none", sum(lengths) + golden)


def whole_length(session: Session, file: File) -> int:
    """Return what a device fetches that has nothing like a file, packed if that is less."""
    packed = catalog.find_delta(session, file.digest, EMPTY)
    return min(file.length, packed.length) if packed else file.length


def find_running(session: Session) -> set[str]:
    """Return the files that devices reported, whichever model they belong to."""
    statement = (
        select(col(SlotState.digest))
        .join(Device, col(Device.id) == col(SlotState.device))
        .where(Device.state == DeviceState.ENROLLED, col(SlotState.digest).is_not(None))
        .distinct()
    )
    variants = {digest for digest in session.exec(statement) if digest}
    known = catalog.variants_by_digest(session, variants)
    return {file.digest for one in known.values() for file in one.files}


def find_wanted(session: Session, planned: Iterable[str]) -> set[str]:
    """Return the files that a device may come to want.

    Those of releases that documents in force or channels name, that devices say they want,
    that are the newest of their model, or that are being `planned` for (release ids).
    """
    ids = {
        *planned,
        *_ordered(session),
        *_wished(session),
        *catalog.prominent_releases(session),
    }
    releases = catalog.releases_by_id(session, ids).values()
    return {
        file.digest
        for release in releases
        for variant in release.variants
        for file in variant.files
    }


def find_deltas(
    session: Session, pairs: Iterable[tuple[str, str]]
) -> Mapping[tuple[str, str], Delta]:
    """Return what is known of these pairs of new and old files."""
    rows = (session.get(Delta, pair) for pair in pairs)
    return {(row.new, row.old): row for row in rows if row is not None}


def _need(session: Session, variant: Variant, file: File, old: str, devices: int) -> Need:
    whole = whole_length(session, file)
    return Need(file.digest, old, variant.profile, devices, file.length, whole)


def _ordered(session: Session) -> set[str]:
    """Return the releases that deployments in force name."""
    topics = session.exec(
        select(DirectorTopic.topic).where(
            col(DirectorTopic.topic).like(f"{PREFIX}/g/%/deployment"),
            col(DirectorTopic.document).is_not(None),
        )
    ).all()
    found = set()
    for topic in topics:
        issued = documents.current(session, topic)
        if issued is not None and isinstance(issued.document, Deployment):
            for slot in issued.document.slots.values():
                found |= {step.release.id for step in slot.steps}
    return found


def _wished(session: Session) -> set[str]:
    """Return the releases that devices say they want, pinned ones among them."""
    statement = select(col(SlotState.wanted)).where(col(SlotState.wanted).is_not(None))
    return {one for one in session.exec(statement.distinct()) if one}
