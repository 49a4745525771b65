"""A device that is another one after a boot: it chooses its variant anew, and says so."""

import json

import pytest
from tests.agent import models
from tests.agent.rig import MODEL, SCHEMA, SLOT, Rig
from tests.support.solo import make_release, make_variant

from modelfleet_agent import cli
from modelfleet_agent.supervisor.history import Code, read
from modelfleet_manifests.release import Demands


def declare(rig: Rig, **facts: object) -> None:
    (rig.dir / "declared.json").write_text(json.dumps(facts))


def test_new_facts_bring_another_variant_by_test_and_trial_and_are_told(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, fast = models.linear(1.0), models.linear(1.0001)
    variants = [
        make_variant(
            rig.fleet.files,
            data,
            name=f"{profile}-fp32",
            profile=profile,
            golden=models.golden(data),
        )
        for profile, data in (("x86-avx2", fast), ("generic", plain))
    ]
    demands = Demands(trial_ms=100)
    release = make_release(
        rig.fleet.files, "1.0.0", model=MODEL, variants=variants, schema=SCHEMA,
        demands=demands,
    )  # fmt: skip
    rig.fleet.add_release(release, slot=SLOT)
    rig.fleet.publish()
    declare(rig, arch="x86_64", cpu=[])
    rig.assign()
    rig.deploy(release)
    rig.start()
    digests = [one.digest for one in variants]
    rig.runs(digests[1])
    assert rig.stop() == 0
    declare(rig, arch="x86_64", cpu=["avx2"])
    rig.start()
    row = rig.reported(lambda one: one.reason == "new-variant", "it says why")
    assert "x86-avx2-fp32 suits this device best" in row.detail
    rig.runs(digests[0])
    phases = {one.slots[SLOT].phase for one in rig.reports if SLOT in one.slots}
    assert "trial" in phases  # it never ran here in this variant
    assert any(
        text == "E_FACTS_CHANGED: cpu: +avx2" for one in rig.reports for text in one.errors
    )
    facts = [one.why for one in read(rig.dir) if one.code is Code.FACTS]
    assert facts == ["cpu: +avx2"]
    assert cli.main(["status", "--dir", str(rig.dir)]) == cli.OK
    assert "profile x86-avx2" in capsys.readouterr().out
    assert cli.main(["history", "--dir", str(rig.dir)]) == cli.OK
    assert "MF_FACTS why=cpu: +avx2" in capsys.readouterr().out
