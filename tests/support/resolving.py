"""The resolver asked about one slot of one device, in front of three releases."""

from typing import Any

from tests.support.documents import (
    GROUP,
    SALT,
    assignment_of,
    deployment_of,
    ref_of,
    release_of,
    view_of,
)

from modelfleet_manifests.deployment import Admit, Step
from modelfleet_manifests.profiles import Facts
from modelfleet_manifests.release import Release
from modelfleet_manifests.resolve import resolve
from modelfleet_manifests.trust import TrustView
from modelfleet_manifests.wanted import Documents, Local, Wanted

FACTS = Facts(arch="x86_64", opset=21)
V1 = release_of("1.0.0")
V2 = release_of("1.1.0", rollback_to=["1.0.0"])
V3 = release_of("1.2.0", rollback_to=["1.0.0", "1.1.0"])
VIEW = view_of(V1, V2, V3)
NOBODY = Admit(salt=SALT, to="0" * 16, enrolments=[], labels={})


def runs(release: Release, **changes: Any) -> Local:
    ref = ref_of(release)
    fields: dict[str, Any] = {
        "release": ref.id,
        "digest": release.variants[0].digest,
        "model": release.model,
        "version": release.version,
        "files": frozenset(one.digest for one in release.variants[0].files),
        "ran": (ref.id,),
        "present": frozenset({ref.id}),
        "proven": frozenset({ref.id}),
    }
    return Local(**{**fields, **changes})


def wanted(
    *steps: Step,
    local: Local | None = None,
    view: TrustView = VIEW,
    facts: Facts = FACTS,
    now: int = 10,
    documents: Documents | None = None,
) -> Wanted:
    held = documents or Documents(assignment_of(), {GROUP: deployment_of(*steps)})
    return resolve(facts, held, view, {"detector": local or Local()}, now)["detector"]
