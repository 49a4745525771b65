import io

from tests.manifests.delta.models import fine_tune, make_model, make_weights

from modelfleet_manifests import delta


def test_an_inspection_accounts_for_every_byte_of_the_patch() -> None:
    weights = {"a": make_weights(1), "b": make_weights(2, "int8"), "c": make_weights(3)}
    moved = {
        "a": fine_tune(weights["a"], 5),
        "b": fine_tune(weights["b"], 6),
        "c": weights["c"],
    }
    old, new = make_model(weights), make_model(moved)
    patch = delta.encode(old, new)
    found = delta.inspect(io.BytesIO(patch).read)
    assert (found.old_size, found.new_size, found.patch_size) == (
        len(old),
        len(new),
        len(patch),
    )
    spent = found.head + found.text + sum(part.packed for part in found.parts)
    assert abs(spent - len(patch)) <= len(found.parts)
    assert {part.method for part in found.parts} >= {"copy"}
    assert all(
        0 <= part.offset < part.offset + part.length <= len(new) for part in found.parts
    )
