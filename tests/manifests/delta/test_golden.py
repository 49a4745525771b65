"""Patches made once by this format's first encoder: every later reader must apply them."""

from pathlib import Path

import pytest
from tests.manifests.delta.hostile import cases, refusal

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("number", range(5))
def test_a_patch_of_the_first_encoder_still_applies(number: int) -> None:
    patch = (GOLDEN / f"{number}.patch").read_bytes()
    assert refusal(cases()[number], patch) == "made it"
