"""What of python-tuf is private and used all the same: an upgrade is noticed here."""

import inspect

from securesystemslib.formats import encode_canonical
from tests.support.solo import SoloFleet
from tuf.api.metadata import Metadata
from tuf.api.serialization import json as tuf_json
from tuf.ngclient import Updater
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet

from modelfleet_agent.trust import chain
from modelfleet_manifests.canonical import encode


def test_its_metadata_is_signed_over_the_same_text_that_is_made_faster(
    fleet: SoloFleet,
) -> None:
    assert vars(chain)["encode"] is encode
    assert tuf_json.encode_canonical is encode
    for data in fleet.files.metadata.values():
        signed = Metadata.from_bytes(data).signed
        text = encode_canonical(signed.to_dict())
        assert isinstance(text, str)
        assert tuf_json.CanonicalJSONSerializer().serialize(signed) == text.encode()
    source = inspect.getsource(tuf_json.CanonicalJSONSerializer.serialize)
    assert "encode_canonical(" in source


def test_the_private_parts_are_there_with_these_arguments() -> None:
    arguments = {
        "__init__": ["self", "root_data", "envelope_type"],
        "update_root": ["self", "data"],
        "update_timestamp": ["self", "data"],
        "update_snapshot": ["self", "data", "trusted"],
        "update_delegated_targets": ["self", "data", "role_name", "delegator_name"],
    }
    for name, expected in arguments.items():
        found = inspect.signature(getattr(TrustedMetadataSet, name)).parameters
        assert list(found) == expected, name


def test_the_librarys_own_client_goes_the_same_way_through_it() -> None:
    """What is loaded, and in which order: a step more upstream would be missed here."""
    steps = ["_load_root", "_load_timestamp", "_load_snapshot", "_load_targets"]
    source = inspect.getsource(Updater.refresh)
    assert [source.count(f"self.{one}(") for one in steps] == [1, 1, 1, 1]
    places = [source.index(f"self.{one}(") for one in steps]
    assert places == sorted(places)
    judges = {
        name for name in vars(TrustedMetadataSet) if name.startswith(("update_", "verify"))
    }
    used = {f"update_{one}" for one in ("root", "timestamp", "snapshot")}
    assert judges == {*used, "update_targets", "update_delegated_targets"}
    judged = inspect.getsource(TrustedMetadataSet)
    # the only clock that is asked, at the start; the chain sets it before it is used
    assert judged.count("datetime.now(") == 1
    assert "reference_time" in judged
