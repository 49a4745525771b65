"""A version's number says what changed, or the server says that it does not."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.documents import release_of

from modelfleet_manifests.release import Schema, Tensor, Variant
from modelfleet_server.catalog.numbering import Fit, Level, fit, schema_changes

X = Tensor(name="x", datatype="FP32", shape=[-1, 8])
Y = Tensor(name="y", datatype="FP32", shape=[-1, 10])
PLAIN = Schema(inputs=[X], outputs=[Y])
BEFORE = msgspec.structs.replace(release_of("1.2.0"), schema=PLAIN)


def measured(metrics: dict[str, str]) -> list[Variant]:
    first = BEFORE.variants[0]
    return [msgspec.structs.replace(first, metrics=metrics)]


def judged(
    version: str, schema: Schema = PLAIN, accuracy: str = "0.97", latency: str = "2.0"
) -> Fit:
    before = msgspec.structs.replace(
        BEFORE, variants=measured({"accuracy": "0.9700", "latency-ms": "2.0"})
    )
    metrics = {"accuracy": accuracy, "latency-ms": latency}
    return fit(before, version, schema, measured(metrics))


def test_a_first_version_fits() -> None:
    assert fit(None, "0.1.0", PLAIN, []) == Fit(Level.FITS, "", ())


@pytest.mark.parametrize("version", ["1.2.1", "1.3.0", "1.3.0-rc.1"])
def test_the_same_interface_and_about_the_same_accuracy_fit_any_number(
    version: str,
) -> None:
    assert judged(version, accuracy="0.9650") == Fit(Level.FITS, "1.2.0", [])


RENAMED = Schema(inputs=[X], outputs=[msgspec.structs.replace(Y, name="z")])
RETYPED = Schema(inputs=[msgspec.structs.replace(X, datatype="FP16")], outputs=[Y])
WIDER = Schema(inputs=[X], outputs=[msgspec.structs.replace(Y, shape=[-1, 12])])
MORE_INPUT = Schema(inputs=[X, Tensor(name="t", datatype="INT64", shape=[1])], outputs=[Y])


@pytest.mark.parametrize("schema", [RENAMED, RETYPED, WIDER, MORE_INPUT])
def test_another_interface_needs_a_major_number(schema: Schema) -> None:
    assert judged("1.3.0", schema).level is Level.MISFIT
    assert judged("2.0.0", schema).level is Level.FITS


def test_a_further_output_and_a_freer_input_break_nobody() -> None:
    more = Schema(inputs=[X], outputs=[Y, msgspec.structs.replace(Y, name="z")])
    assert schema_changes(PLAIN, more) == []
    fixed = Schema(inputs=[msgspec.structs.replace(X, shape=[1, 8])], outputs=[Y])
    assert schema_changes(fixed, PLAIN) == []
    assert schema_changes(PLAIN, fixed) != []


@pytest.mark.parametrize("accuracy", ["0.94", "0.995"])
def test_a_large_shift_in_accuracy_is_a_warning_either_way(accuracy: str) -> None:
    found = judged("1.2.1", accuracy=accuracy)
    assert found.level is Level.WARNING
    assert "accuracy goes from 0.9700 to" in found.changes[0].why


def test_a_much_slower_variant_is_a_warning() -> None:
    found = judged("1.2.1", latency="3.5")
    assert [one.why for one in found.changes] == [
        f"{BEFORE.variants[0].profile}: a run takes 3.500 ms where it took 2.000"
    ]


def test_the_worst_change_decides() -> None:
    assert judged("1.3.0", RENAMED, accuracy="0.5").level is Level.MISFIT


tensors = st.builds(
    Tensor,
    name=st.sampled_from("abc"),
    datatype=st.sampled_from(["FP32", "INT64"]),
    shape=st.lists(st.sampled_from([-1, 1, 8]), max_size=3),
)
sides = st.lists(tensors, max_size=3, unique_by=lambda one: one.name)
schemas = st.builds(Schema, inputs=sides, outputs=sides)


@given(schemas)
def test_a_schema_does_not_differ_from_itself(schema: Schema) -> None:
    assert schema_changes(schema, schema) == []


@given(schemas, schemas)
def test_a_major_number_always_fits(before: Schema, after: Schema) -> None:
    old = msgspec.structs.replace(BEFORE, schema=before)
    assert fit(old, "2.0.0", after, []).level is Level.FITS
