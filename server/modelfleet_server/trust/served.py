"""`/tuf/…`: a standard TUF repository, for devices and for any other TUF client.

Everybody may read it: it is signed, and it holds no secret. Versioned files never change;
only `timestamp.json` does.
"""

import gzip
import re
from functools import lru_cache
from http import HTTPStatus
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Header, Path, Response
from starlette.requests import HTTPConnection

from modelfleet_manifests.digests import HEX32, is_digest
from modelfleet_server.kit.api import ReadDep, parts_of
from modelfleet_server.kit.errors import NotFoundError
from modelfleet_server.trust import store
from modelfleet_server.trust.proposals import Publisher
from modelfleet_server.trust.signer.domain import Signer
from modelfleet_server.trust.tables import TrustMetadata, TrustTarget

public = APIRouter(prefix="/tuf", tags=["trust"])

FOREVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "public, no-cache"
_NAME = re.compile(r"(?:([1-9][0-9]{0,15})\.)?([a-z0-9/-]{1,127})\.json")


class Asked(NamedTuple):
    """What a client sends beside the name."""

    if_none_match: str | None
    accept_encoding: str | None


def ask(
    if_none_match: Annotated[str | None, Header()] = None,
    accept_encoding: Annotated[str | None, Header()] = None,
) -> Asked:
    """Return the headers that an answer depends on."""
    return Asked(if_none_match, accept_encoding)


AskedDep = Annotated[Asked, Depends(ask)]


@public.get("/metadata/{name:path}")
def get_metadata(name: str, session: ReadDep, asked: AskedDep) -> Response:
    """Send `timestamp.json`, or one version of a role such as `1.demo%2Fdigits.json`."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise _missing(name)
    version, role = found.groups()
    if version is not None and role != "timestamp":
        row = store.find(session, role, int(version))
    elif version is None and role == "timestamp":
        row = store.find_newest(session, role)
    else:
        row = None
    if row is None:
        raise _missing(name)
    kept = ASK_AGAIN if version is None else FOREVER
    return _answer(row, kept, asked)


def find_signer(connection: HTTPConnection) -> Signer:
    """Return what signs the time."""
    return parts_of(connection).get(Publisher).signer


@public.get("/time/{nonce}")
def get_time(
    nonce: Annotated[str, Path(pattern=HEX32)],
    session: ReadDep,
    signer: Annotated[Signer, Depends(find_signer)],
) -> Response:
    """Say what time it is to a device that sends 32 random hexadecimal digits."""
    token = signer.sign_time(nonce, store.online_keys(session, "time"))
    headers = {"Cache-Control": "no-store"}
    return Response(token, headers=headers, media_type="application/json")


@public.get("/targets/{name:path}")
def get_target(name: str, session: ReadDep, asked: AskedDep) -> Response:
    """Send a target by the name that it has with consistent snapshots."""
    folder, _, last = name.rpartition("/")
    digest, _, base = last.partition(".")
    path = f"{folder}/{base}" if folder else base
    row = store.find_target(session, path, digest) if is_digest(digest) else None
    if row is None:
        raise _missing(name)
    return _answer(row, FOREVER, asked)


def _answer(row: TrustMetadata | TrustTarget, kept: str, asked: Asked) -> Response:
    packed = "gzip" in (asked.accept_encoding or "")
    etag = f'"{row.digest}-gzip"' if packed else f'"{row.digest}"'
    headers = {"ETag": etag, "Cache-Control": kept, "Vary": "Accept-Encoding"}
    if asked.if_none_match is not None and etag in asked.if_none_match:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    if packed:
        headers["Content-Encoding"] = "gzip"
    data = _pack(row.data) if packed else row.data
    return Response(data, headers=headers, media_type="application/json")


@lru_cache(maxsize=256)
def _pack(data: bytes) -> bytes:
    # digests and keys of many roles are the same: a tenth of the bytes
    return gzip.compress(data, mtime=0)


def _missing(name: str) -> NotFoundError:
    return NotFoundError(f"there is no {name} in the trust repository", name=name)
