"""The release: the signed statement of one version, and all that a device may load of it.

Its bytes are one target of the trust repository; their SHA-256 is the release id.
"""

from collections.abc import Iterable
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from modelfleet_manifests.canonical import MAX_INTEGER
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import MAX_RELEASE, Body, read, write
from modelfleet_manifests.errors import FormatError
from modelfleet_manifests.header import Hex64
from modelfleet_manifests.names import MODEL, NAME
from modelfleet_manifests.semver import PATTERN

ModelName = Annotated[str, Meta(pattern=MODEL)]
VersionText = Annotated[str, Meta(pattern=PATTERN, max_length=64)]
Name = Annotated[str, Meta(pattern=NAME)]
Length = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Decimal = Annotated[str, Meta(pattern=r"^-?[0-9]{1,16}(\.[0-9]{1,12})?$")]
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,126}$")]
Datatype = Annotated[str, Meta(pattern=r"^(BOOL|U?INT(8|16|32|64)|FP(16|32|64)|BYTES)$")]
Text = Annotated[str, Meta(max_length=200)]


def files_digest(files: Iterable[tuple[str, str]]) -> str:
    """Return one digest for the named files of a variant.

    Args:
        files: Pairs of file name and SHA-256, at least one.

    Returns:
        The file's own digest where there is one, otherwise the SHA-256 of the lines
        `<digest>  <name>`, sorted by name, each ended by a newline.
    """
    pairs = sorted(files)
    if len(pairs) == 1:
        return pairs[0][1]
    return sha256("".join(f"{digest}  {name}\n" for name, digest in pairs).encode())


class ReleaseRef(Body, kw_only=True, frozen=True):
    """Names a release: where its statement is, and what it must hash to."""

    model: ModelName
    version: VersionText
    id: Hex64


class File(Body, kw_only=True, frozen=True):
    """One file: its name beside the others, SHA-256, length in bytes."""

    name: FileName
    digest: Hex64
    length: Length


class Tensor(Body, kw_only=True, frozen=True):
    """An input or output; `shape` has -1 where the size is free."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    datatype: Datatype
    shape: Annotated[list[Annotated[int, Meta(ge=-1, le=MAX_INTEGER)]], Meta(max_length=16)]


class Schema(Body, kw_only=True, frozen=True):
    """What goes in and what comes out, in the model's order."""

    inputs: Annotated[list[Tensor], Meta(min_length=1, max_length=64)]
    outputs: Annotated[list[Tensor], Meta(min_length=1, max_length=64)]

    @property
    def digest(self) -> str:
        """Names the schema: slots are bound to it."""
        return sha256(write(self))


class Golden(Body, kw_only=True, frozen=True):
    """Inputs with this variant's reference outputs (an npz) and how far off is still right.

    A device's output `y` passes against the reference `r` where
    `|y - r| <= atol + rtol · |r|` everywhere and `y` is finite.
    """

    file: File
    atol: Decimal
    rtol: Decimal


class Waiver(Body, kw_only=True, frozen=True):
    """Somebody let a variant pass the parity gate that its profile's budget closed.

    Attributes:
        by: Who.
        reason: Why, in their words.
    """

    by: Annotated[str, Meta(min_length=1, max_length=128)]
    reason: Annotated[str, Meta(min_length=1, max_length=500)]


class Variant(Body, kw_only=True, frozen=True):
    """What a recipe made of the master for one profile.

    Attributes:
        name: Unique within the release, for example `x86-fp32`.
        profile: The class of hardware that it was made for.
        opset: The opset that the runtime must load.
        providers: Execution providers that it cannot do without.
        files: First the graph, then its external data; a device loads nothing else.
        golden: What the device tests itself on.
        recipe: Digest of the steps that made it.
        toolchain: Digest of the tools' names and versions.
        calibration: Digest of the calibration data, "" where none was used.
        vouched: How the approvers convinced themselves: rebuilt, audited or waived.
        metrics: Measured figures as decimal strings, such as `accuracy`, `latency_ms`.
        waiver: It is outside of its budget, and who let it pass; absent where it is within.
    """

    name: Name
    profile: Name
    opset: Annotated[int, Meta(ge=1, le=1000)]
    providers: Annotated[list[Text], Meta(max_length=8)]
    files: Annotated[list[File], Meta(min_length=1, max_length=16)]
    golden: Golden
    recipe: Hex64
    toolchain: Hex64
    calibration: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$")]
    vouched: Annotated[str, Meta(pattern=r"^(rebuilt|audited|waived)$")]
    metrics: dict[Name, Decimal]
    waiver: Waiver | UnsetType = UNSET

    @property
    def digest(self) -> str:
        """Names the variant on a device, see `files_digest`."""
        return files_digest((file.name, file.digest) for file in self.files)


class Demands(Body, kw_only=True, frozen=True):
    """What a device must see before it keeps the release; deployments only tighten it.

    Attributes:
        self_test_ms: The longest that the self-test may take, wall time.
        trial_ms: How long the new session must serve before the trial ends.
        trial_errors: How many failed requests a trial survives.
    """

    self_test_ms: Annotated[int, Meta(ge=100, le=3_600_000)] = 60_000
    trial_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 2_000
    trial_errors: Annotated[int, Meta(ge=0, le=1000)] = 0


class Release(Body, kw_only=True, frozen=True):
    """The statement. `lineage` names what the master was made from.

    Attributes:
        master: The full-precision model; it never leaves the server.
        rollback_to: Lower versions that a device may return to from here.
    """

    type: Annotated[str, Meta(pattern="^release$")] = "release"
    v: Annotated[int, Meta(ge=0, le=0)] = 0
    model: ModelName
    version: VersionText
    master: File
    lineage: Hex64
    schema: Schema
    modes: Annotated[list[Name], Meta(min_length=1, max_length=8)]
    demands: Demands
    rollback_to: Annotated[list[VersionText], Meta(max_length=64)]
    variants: Annotated[list[Variant], Meta(min_length=1, max_length=32)]


def write_release(release: Release) -> bytes:
    """Return the bytes that are signed as a target.

    Raises:
        FormatError: Two variants or two files of a variant share a name, or the statement
            is larger than 64 KiB.
    """
    _check_unique([variant.name for variant in release.variants], "variants")
    for variant in release.variants:
        _check_unique([file.name for file in variant.files], f"files of {variant.name}")
    data = write(release)
    if len(data) > MAX_RELEASE:
        raise FormatError("release", f"is {len(data)} bytes, at most {MAX_RELEASE} fit")
    return data


def read_release(data: bytes) -> Release:
    """Return the release whose bytes were verified as a target.

    Raises:
        FormatError: Not canonical, or a field is missing, unknown or out of range.
        SizeError: Larger than 64 KiB.
    """
    release = read(data, Release, "release", cap=MAX_RELEASE)
    _check_unique([variant.name for variant in release.variants], "variants")
    for variant in release.variants:
        _check_unique([file.name for file in variant.files], f"files of {variant.name}")
    return release


def release_ref(release: Release) -> ReleaseRef:
    """Return what documents call this release by."""
    return ReleaseRef(
        model=release.model, version=release.version, id=sha256(write(release))
    )


def _check_unique(names: list[str], what: str) -> None:
    if len(set(names)) != len(names):
        raise FormatError("release", f"two {what} share a name")
