"""The demonstration: the main job on real models, with real processes, on this machine."""

from modelfleet_server.demo.measured import Measured
from modelfleet_server.demo.story import DemoOptions, run

__all__ = ["DemoOptions", "Measured", "run"]
