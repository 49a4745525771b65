"""Metadata and recalls as nobody signed them: refused by name, nothing believed."""

import base64

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.solo import SoloFleet
from tuf.api.exceptions import RepositoryError

from modelfleet_agent.trust.checks import check_json
from modelfleet_agent.trust.floors import Floors
from modelfleet_agent.trust.messages import Answer
from modelfleet_agent.trust.state import Signers
from modelfleet_agent.trust.tombstones import read_message, read_pardons
from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.recalls import names_of

FLEET = SoloFleet()
FLEET.stop("a" * 64)
FLEET.publish()
RECALLERS = {
    role: Signers(
        keys={FLEET.keys[role].public.key_id: FLEET.keys[role].public.hex}, threshold=1
    )
    for role in ("revocations", "stops")
}
GOOD = {role: FLEET.sign(role) for role in RECALLERS}
TIMESTAMP = FLEET.files.metadata["timestamp.json"]


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_noise_is_no_metadata(data: bytes) -> None:
    try:
        check_json(data, "x")
    except RepositoryError:
        return
    msgspec.json.decode(data)  # whatever is taken is JSON for other parsers too


@given(st.integers(0, 5000), st.binary(min_size=1, max_size=3))
@settings(max_examples=100)
def test_a_recall_that_was_altered_adds_nothing(at: int, put: bytes) -> None:
    file = GOOD["stops"]
    place = at % len(file)
    altered = file[:place] + put + file[place + len(put) :]
    texts = {
        "revocations": base64.b64encode(GOOD["revocations"]).decode(),
        "stops": base64.b64encode(altered).decode(),
    }
    message = read_message(canonical(texts), RECALLERS)
    assert message.named.get("stops", set()) <= {"a" * 64}


@given(
    st.binary(max_size=200)
    | st.builds(canonical, st.dictionaries(st.text("ab"), st.text("c")))
)
@settings(max_examples=100)
def test_a_message_is_read_or_refused_by_name(payload: bytes) -> None:
    try:
        assert read_message(payload, RECALLERS).named == {}
    except ManifestError:
        return


@given(st.lists(st.text(max_size=60), max_size=5))
def test_paths_that_are_no_tombstones_name_nothing(paths: list[str]) -> None:
    for role in RECALLERS:
        named, _ = names_of(role, paths)
        assert all(len(one) == 64 for one in named)


@given(
    st.recursive(st.none() | st.integers() | st.text(max_size=9), st.lists, max_leaves=5)
)
def test_pardons_of_any_shape_pardon_nothing(field: object) -> None:
    pardons, _ = read_pardons(field)
    assert all(not names for names in pardons.values())


@given(st.binary(max_size=200))
def test_a_damaged_record_or_answer_is_an_error_of_one_kind(data: bytes) -> None:
    for kind in (Floors, Answer):
        try:
            msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError:
            continue
        except UnicodeDecodeError:
            continue  # caught as ValueError where these are read
