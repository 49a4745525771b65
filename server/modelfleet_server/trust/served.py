"""`/tuf/…`: a standard TUF repository, for devices and for any other TUF client.

Everybody may read it: it is signed, and it holds no secret. Versioned files never change;
only `timestamp.json` does.
"""

import re
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Response

from modelfleet_manifests.digests import is_digest
from modelfleet_server.kit.api import ReadDep
from modelfleet_server.kit.errors import NotFoundError
from modelfleet_server.trust import store

public = APIRouter(prefix="/tuf", tags=["trust"])

FOREVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "public, no-cache"
_NAME = re.compile(r"(?:([1-9][0-9]{0,15})\.)?([a-z0-9/-]{1,127})\.json")
MatchDep = Annotated[str | None, Header(alias="If-None-Match")]


@public.get("/metadata/{name:path}")
def get_metadata(name: str, session: ReadDep, if_none_match: MatchDep = None) -> Response:
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
    return _answer(row.data, row.digest, kept, if_none_match)


@public.get("/targets/{name:path}")
def get_target(name: str, session: ReadDep, if_none_match: MatchDep = None) -> Response:
    """Send a target by the name that it has with consistent snapshots."""
    folder, _, last = name.rpartition("/")
    digest, _, base = last.partition(".")
    path = f"{folder}/{base}" if folder else base
    row = store.find_target(session, path, digest) if is_digest(digest) else None
    if row is None:
        raise _missing(name)
    return _answer(row.data, row.digest, FOREVER, if_none_match)


def _answer(data: bytes, digest: str, kept: str, if_none_match: str | None) -> Response:
    etag = f'"{digest}"'
    headers = {"ETag": etag, "Cache-Control": kept}
    if if_none_match is not None and etag in if_none_match:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(data, headers=headers, media_type="application/json")


def _missing(name: str) -> NotFoundError:
    return NotFoundError(f"there is no {name} in the trust repository", name=name)
