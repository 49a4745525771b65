from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.manifests.delta.hostile import CORPUS, load, mutate, refusal


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.patch")), ids=lambda path: path.stem)
def test_a_patch_that_once_was_a_new_way_to_lie_is_refused(path: Path) -> None:
    assert refusal(*load(path))


@given(st.integers(0, 2**40))
@settings(max_examples=300, deadline=None)
def test_a_patch_that_lies_behind_right_checksums_is_refused(seed: int) -> None:
    assert refusal(*mutate(seed))
