"""An update survives a full disk at any change that it makes, and goes on after.

The changes are found by tracing the update once. One error a file: each takes minutes, and
files are what is shared out between processes.
"""

from pathlib import Path

import pytest
from tests.agent.cutting import trace
from tests.agent.power_cut import Update
from tests.agent.rig import Rig
from tests.support.kill import Order


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_update_survives_a_disk_that_refuses_any_change_for_a_while(
    rig: Rig, tmp_path: Path
) -> None:
    story = Update(rig)
    for point in trace(story, tmp_path):
        story.round(Order("ENOSPC", point, times=2))
