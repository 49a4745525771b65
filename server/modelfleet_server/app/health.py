"""Whether the server is alive; open to everybody, so it says little."""

from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from sqlalchemy import text

from modelfleet_server.bridge.service import Bridge
from modelfleet_server.kit.api import ReadDep, given_if_any

router = APIRouter(prefix="/api/v1", tags=["health"])
BridgeDep = Annotated[Bridge | None, Depends(given_if_any(Bridge))]


class HealthOut(BaseModel):
    """`broker` is null in a process that has no bridge."""

    status: str
    version: str
    broker: bool | None


@router.get("/health")
def get_health(session: ReadDep, bridge: BridgeDep) -> HealthOut:
    """Answer 200 if the database does; tell whether the broker is connected."""
    session.connection().execute(text("SELECT 1"))
    return HealthOut(
        status="ok",
        version=version("modelfleet"),
        broker=None if bridge is None else bridge.status().connected,
    )
