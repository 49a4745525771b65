import hashlib
import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.manifests.delta.models import fine_tune, make_model, make_weights
from tests.manifests.delta.patching import apply_patch

from modelfleet_manifests import delta
from modelfleet_manifests.delta.container import Header, Method, Op, pack_head
from modelfleet_manifests.errors import ManifestError

WEIGHTS = {
    "a": make_weights(1),
    "b": make_weights(2, "int8"),
    "c": make_weights(3, "float16"),
}
OLD = make_model(WEIGHTS)
NEW = make_model({name: fine_tune(value, 9) for name, value in WEIGHTS.items()})
PATCH = delta.encode(OLD, NEW)


@given(st.integers(0, len(PATCH) - 1))
@settings(max_examples=200, deadline=None)
def test_a_truncated_patch_is_refused(length: int) -> None:
    with pytest.raises(delta.BrokenPatchError):
        apply_patch(OLD, PATCH[:length], NEW)


@given(st.integers(0, len(PATCH) - 1), st.integers(1, 255))
@settings(max_examples=400, deadline=None)
def test_a_patch_with_one_altered_byte_is_refused(at: int, flip: int) -> None:
    altered = bytearray(PATCH)
    altered[at] ^= flip
    with pytest.raises(delta.DeltaError):
        apply_patch(OLD, bytes(altered), NEW)


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(delta.BrokenPatchError, match="after its end"):
        apply_patch(OLD, PATCH + b"\0", NEW)


@pytest.mark.parametrize("base", [b"", OLD[:-1], OLD + b"\0", NEW])
def test_a_wrong_base_is_named_before_anything_is_written(base: bytes) -> None:
    with pytest.raises(delta.WrongBaseError) as caught:
        delta.apply(
            lambda offset, length: base[offset : offset + length],
            io.BytesIO(PATCH).read,
            lambda _: pytest.fail("wrote before the base was checked"),
            new_digest=hashlib.sha256(NEW).hexdigest(),
            new_length=len(NEW),
        )
    assert caught.value.expected == hashlib.sha256(OLD).hexdigest()
    assert caught.value.found != caught.value.expected


def test_a_patch_for_another_target_is_refused() -> None:
    with pytest.raises(delta.WrongTargetError):
        apply_patch(OLD, PATCH, OLD + bytes(len(NEW)))


def test_a_patch_longer_than_the_signed_length_is_refused_by_its_header() -> None:
    with pytest.raises(delta.BrokenPatchError, match="allowed are"):
        apply_patch(OLD, PATCH, NEW[:-1])


def test_a_newer_format_is_named_as_such() -> None:
    newer = PATCH[:8] + b"\x63" + PATCH[9:]
    with pytest.raises(delta.UnknownPatchError, match="newer"):
        apply_patch(OLD, newer, NEW)


def test_every_refusal_is_a_manifest_error() -> None:
    assert issubclass(delta.DeltaError, ManifestError)


def header_for(new_size: int) -> Header:
    return Header(
        len(OLD), new_size, hashlib.sha256(OLD).digest(), hashlib.sha256(NEW).digest()
    )


@pytest.mark.parametrize(
    "op",
    [
        Op(Method.COPY, 1, 0, len(NEW) + 1, 0, b""),
        Op(Method.COPY, 1, 1 << 60, 8, 0, b""),
        Op(Method.COPY, 1, 0, 8, len(OLD), b""),
        Op(Method.SUBTRACT, 4, 0, 6, 0, b""),
        Op(Method.COPY, 1, 0, 0, 0, b""),
        Op(Method.FRESH, 1, 0, 8, 0, bytes(65)),
        Op(Method.CAST, 2, 0, 8, len(OLD) - 15, bytes([1, 2])),
    ],
)
def test_an_op_that_cannot_be_is_refused(op: Op) -> None:
    with pytest.raises(delta.BrokenPatchError):
        apply_patch(OLD, pack_head(header_for(len(NEW)), [op]), NEW)


def test_a_block_cannot_claim_more_than_it_may_decode_to() -> None:
    head = pack_head(header_for(len(NEW)), [])
    with pytest.raises(delta.BrokenPatchError, match="block of"):
        apply_patch(OLD, head + struct.pack("<II", 0xFFFFFFFF, 0), NEW)
