"""Keys that are in no file of ours sign as well, through securesystemslib's interface."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, Key, Signature, Signer
from sqlmodel import Session
from tests.support.fleet import ACTOR, NOW, PASSPHRASE, FleetUnderTest, make_release

from modelfleet_manifests.errors import FormatError
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.tuf_keys import NaclSigner
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.trust import approving, proposals, proposing
from modelfleet_server.trust.domain import State
from modelfleet_server.trust.outside import (
    OutsideKey,
    SignerError,
    open_any,
    read_any,
    write_signers,
)

FLEET = "f" * 64
PIN = "1234"


class Token(Signer):
    """A second kind of signer: keys in a token, opened by a PIN."""

    slots: ClassVar[dict[str, PrivateKey]] = {}

    def __init__(self, private: PrivateKey, key: Key) -> None:
        self._inner, self._key = NaclSigner(private), key

    @property
    def public_key(self) -> Key:
        return self._key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: Any = None
    ) -> "Token":
        if secrets_handler("pin") != PIN:
            raise ValueError("wrong PIN")
        return cls(cls.slots[priv_key_uri.partition(":")[2]], public_key)

    def sign(self, payload: bytes) -> Signature:
        return self._inner.sign(payload)


@pytest.fixture
def token() -> Iterator[dict[str, PrivateKey]]:
    SIGNER_FOR_URI_SCHEME["token"] = Token
    Token.slots = {}
    yield Token.slots
    del SIGNER_FOR_URI_SCHEME["token"]


def _never() -> str:
    raise AssertionError("nobody needs a secret yet")


def test_a_token_signs_a_release_that_is_published(
    session: Session, fleet: FleetUnderTest, token: dict[str, PrivateKey], tmp_path: Path
) -> None:
    path = tmp_path / "token.json"
    for role, key in fleet.approver.by_role.items():
        assert isinstance(key, PrivateKey)
        token[role] = key
    signers = {role: (key.public, f"token:{role}") for role, key in token.items()}
    write_signers(path, fleet.fleet, signers)
    assert path.stat().st_mode & 0o777 == 0o600
    assert not any(key.seed.hex().encode() in path.read_bytes() for key in token.values())
    said = read_any(path)
    assert (said.fleet, said.keys["root"]) == (fleet.fleet, token["root"].public)
    proposal = proposing.propose_release(
        session, make_release(), slots=["digits"], actor=ACTOR, now_ms=NOW
    )
    copy, held = fleet.copy_of(session, proposal), fleet.in_force(session, proposal)
    signatures = approving.sign(copy, open_any(path, lambda: PIN), held)
    proposals.attach(
        session, fleet.publisher, proposal.id, signatures, actor=ACTOR, now_ms=NOW
    )
    assert proposal.state is State.PUBLISHED


def test_a_key_file_of_ours_is_opened_as_before(fleet: FleetUnderTest) -> None:
    assert read_any(fleet.approver_path).fleet == fleet.fleet
    keys = open_any(fleet.approver_path, lambda: PASSPHRASE)
    assert keys.by_role["root"].public == fleet.approver.by_role["root"].public


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("token:other", "another key than the file says"),
        ("token:none", "does not sign"),
        ("pigeon:1", "Unsupported private key scheme"),
    ],
)
def test_a_signer_that_cannot_or_is_another_is_named(
    token: dict[str, PrivateKey], uri: str, why: str
) -> None:
    token["other"] = PrivateKey.generate()
    key = OutsideKey(PrivateKey.generate().public, uri, lambda: PIN)
    with pytest.raises(SignerError, match=why):
        key.sign(b"payload")


def test_a_wrong_pin_is_told(token: dict[str, PrivateKey]) -> None:
    token["a"] = PrivateKey.generate()
    with pytest.raises(SignerError, match="wrong PIN"):
        OutsideKey(token["a"].public, "token:a", lambda: "4321").sign(b"payload")


def test_a_file_of_signers_that_is_broken_is_refused(tmp_path: Path) -> None:
    public = PrivateKey.generate().public
    with pytest.raises(InvalidError, match="director"):
        write_signers(tmp_path / "no", FLEET, {"director": (public, "token:1")})
    path = tmp_path / "file"
    write_signers(path, FLEET, {"root": (public, "token:1")})
    text = path.read_text()
    for broken in (text.replace(public.hex, "zz"), text.replace('"uri"', '"url"')):
        path.write_text(broken)
        with pytest.raises((InvalidError, FormatError)):
            read_any(path)
    path.write_text(text.replace(FLEET, "nobody"))
    with pytest.raises(InvalidError, match="names no fleet"):
        open_any(path, _never)
