"""Blobs over HTTP. Reading is public: whoever knows a digest may have its bytes."""

from http import HTTPStatus
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from modelfleet_manifests.digests import HEX64
from modelfleet_server.blobs.ranges import Span, UnsatisfiableError, wanted_span
from modelfleet_server.blobs.service import Blob, BlobStore, keep
from modelfleet_server.kit.access import OperatorDep
from modelfleet_server.kit.api import DatabaseDep, NowDep, given
from modelfleet_server.kit.problems import problem

MAX_UPLOAD = 8 << 30
"""Most bytes of one uploaded file."""

public = APIRouter()
router = APIRouter(prefix="/api/v1/blobs", tags=["blobs"])

BlobsDep = Annotated[BlobStore, Depends(given(BlobStore))]
DigestPath = Annotated[str, Path(pattern=HEX64)]


class BlobOut(BaseModel):
    """A blob that is here now."""

    digest: str
    length: int


@public.head("/blobs/sha256/{digest}", include_in_schema=False)
@public.get("/blobs/sha256/{digest}", tags=["blobs"])
def get_blob(
    digest: DigestPath,
    request: Request,
    store: BlobsDep,
    range_: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Send a blob, or one range of it."""
    blob = store.get(digest)
    etag = f'"{digest}"'
    headers = {
        "ETag": etag,
        "Cache-Control": "public, max-age=31536000, immutable",
        "Accept-Ranges": "bytes",
    }
    if if_none_match is not None and etag in if_none_match:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    if if_range is not None and if_range.strip() != etag:
        range_ = None
    try:
        span = wanted_span(range_, blob.length)
    except UnsatisfiableError:
        return problem(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "range-not-satisfiable",
            f"the blob has {blob.length} bytes, none of them in {range_}",
            headers={"Content-Range": f"bytes */{blob.length}"},
        )
    return _send(store, blob, span, headers, body=request.method != "HEAD")


def _send(
    store: BlobStore, blob: Blob, span: Span | None, headers: dict[str, str], *, body: bool
) -> Response:
    start, end = span or Span(0, blob.length)
    headers["Content-Length"] = str(end - start)
    status = HTTPStatus.OK
    if span is not None:
        status = HTTPStatus.PARTIAL_CONTENT
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{blob.length}"
    media_type = "application/octet-stream"
    if not body:
        return Response(status_code=status, headers=headers, media_type=media_type)
    chunks = store.open_range(blob.digest, start, end)
    return StreamingResponse(
        chunks, status_code=status, headers=headers, media_type=media_type
    )


@router.put("/sha256/{digest}", status_code=HTTPStatus.CREATED)
async def put_blob(
    digest: DigestPath,
    request: Request,
    store: BlobsDep,
    database: DatabaseDep,
    now: NowDep,
    _actor: OperatorDep,
) -> BlobOut:
    """Store the body under its digest; storing it again changes nothing."""

    def note(blob: Blob) -> None:
        with database.write() as session:
            keep(session, blob, at_ms=now)

    with store.receive(cap=MAX_UPLOAD) as incoming:
        async for chunk in request.stream():
            await run_in_threadpool(incoming.write, chunk)
        blob = await run_in_threadpool(store.finish, incoming, digest)
    # a thread beyond the pool's: waiting for the writer's turn must not use them up
    await anyio.to_thread.run_sync(note, blob, limiter=anyio.CapacityLimiter(1))
    return BlobOut(digest=blob.digest, length=blob.length)
