"""A release that comes packed, after a bad delta, may be cut anywhere.

Every change of the story is found by tracing it once; the agent is then killed with -9 just
before each of them. All changes go through `fsio`: the trace fails where one does not. One
story a file: each takes minutes, and files are what is shared out between processes.
"""

from pathlib import Path

import pytest
from tests.agent.cutting import sweep, trace
from tests.agent.power_cut import Packed
from tests.agent.rig import Rig


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_before_any_change_of_the_disk_it_comes_back(
    rig: Rig, tmp_path: Path
) -> None:
    story = Packed(rig)
    sweep(story, trace(story, tmp_path))
