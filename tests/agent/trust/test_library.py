"""What of python-tuf is private and used all the same: an upgrade is noticed here."""

import inspect

from securesystemslib.formats import encode_canonical
from tests.support.solo import SoloFleet
from tuf.api.metadata import Metadata
from tuf.api.serialization import json as tuf_json
from tuf.ngclient import Updater

from modelfleet_agent.trust import client
from modelfleet_manifests.canonical import encode


def test_its_metadata_is_signed_over_the_same_text_that_is_made_faster(
    fleet: SoloFleet,
) -> None:
    assert vars(client)["encode"] is encode
    assert tuf_json.encode_canonical is encode
    for data in fleet.files.metadata.values():
        signed = Metadata.from_bytes(data).signed
        text = encode_canonical(signed.to_dict())
        assert isinstance(text, str)
        assert tuf_json.CanonicalJSONSerializer().serialize(signed) == text.encode()
    source = inspect.getsource(tuf_json.CanonicalJSONSerializer.serialize)
    assert "encode_canonical(" in source


def test_the_private_parts_are_there_with_these_arguments() -> None:
    assert list(inspect.signature(Updater._load_root).parameters) == ["self"]
    names = list(inspect.signature(Updater._load_targets).parameters)
    assert names == ["self", "role", "parent_role"]
    assert "_trusted_set" in inspect.getsource(Updater.__init__)
