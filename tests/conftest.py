"""What holds for all tests."""

from hypothesis import settings

# no test depends on how fast the machine is, or on who else uses it
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
