"""Profiles from their files: the shipped ones, and an operator's own in their place.

Only the server reads YAML. A child is given the whole profile in its job, and devices have
the detection rules as a table: see `modelfleet_manifests.profiles`.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

import yaml

from modelfleet_manifests import profiles as shipped
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.profiles.definition import Profile, read_profile
from modelfleet_server.builds.errors import ProfileError, UnknownProfileError

MAX_FILE = 64 << 10
"""Bytes of one profile's file."""


@cache
def shipped_profiles() -> Mapping[str, Profile]:
    """Return the profiles of this package, lowest rank first."""
    found = [
        _parse(entry.read_text(), entry.name)
        for entry in files(shipped).iterdir()
        if entry.name.endswith(".yaml")
    ]
    return _ordered(found)


def load_profiles(folder: Path) -> Mapping[str, Profile]:
    """Return the shipped profiles with those in `folder` in place of or beside them.

    An operator's profile may change what is built for a class of hardware. Which devices
    belong to a shipped profile it may not: devices decide that by the table they came with.

    Args:
        folder: With `NAME.yaml` each; need not be there.

    Raises:
        ProfileError: A file is not a profile, is not called as its profile is, or takes a
            rank or a detection rule that it may not have.
    """
    merged = dict(shipped_profiles())
    for path in sorted(folder.glob("*.yaml")):
        profile = _read(path)
        _check_own(profile, path, merged)
        merged[profile.name] = profile
    return _ordered(merged.values())


def find_profile(name: str, profiles: Mapping[str, Profile]) -> Profile:
    """Return a profile by its name.

    Raises:
        UnknownProfileError: There is none.
    """
    try:
        return profiles[name]
    except KeyError:
        raise UnknownProfileError(
            f"there is no recipe for the profile {name!r}",
            f"Known are {', '.join(profiles)}.",
        ) from None


def _read(path: Path) -> Profile:
    try:
        if path.stat().st_size > MAX_FILE:
            raise ProfileError(
                f"{path} has more than {MAX_FILE} bytes", "It is no profile."
            )
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} cannot be read: {error}", "Write it again.") from None
    return _parse(text, str(path))


def _parse(text: str, source: str) -> Profile:
    try:
        return read_profile(yaml.safe_load(text), source)
    except yaml.YAMLError as error:
        first = " ".join(str(error).split())
        raise ProfileError(f"{source} is not YAML: {first}", "Correct that line.") from None
    except ManifestError as error:
        raise ProfileError(
            f"{error.what} {error.why}",
            "See profile.schema.json in modelfleet_manifests/profiles.",
        ) from None


def _check_own(profile: Profile, path: Path, others: Mapping[str, Profile]) -> None:
    if path.stem != profile.name:
        raise ProfileError(
            f"{path} holds the profile {profile.name!r}", f"Call it {profile.name}.yaml."
        )
    same = others.get(profile.name)
    if same is not None and (same.detect, same.rank) != (profile.detect, profile.rank):
        raise ProfileError(
            f"{path} changes which devices fit the shipped profile {profile.name!r}",
            "Keep its detect and rank, or give yours another name.",
        )
    taken = {o.rank: o.name for o in others.values() if o.name != profile.name}
    if profile.rank in taken:
        raise ProfileError(
            f"{path} takes the rank {profile.rank} of {taken[profile.rank]!r}",
            "Every profile has a rank of its own.",
        )


def _ordered(profiles: Iterable[Profile]) -> Mapping[str, Profile]:
    return {one.name: one for one in sorted(profiles, key=lambda one: one.rank)}
