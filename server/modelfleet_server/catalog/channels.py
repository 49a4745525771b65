"""Channels: movable names for the versions of a model, with their whole history."""

from sqlmodel import Session, col, select

from modelfleet_manifests.names import check_name
from modelfleet_manifests.semver import Version
from modelfleet_server.audit import service as audit
from modelfleet_server.catalog.domain import State
from modelfleet_server.catalog.tables import Channel, ChannelMove, ModelVersion
from modelfleet_server.catalog.versions import require_version
from modelfleet_server.kit.errors import ConflictError


class NotReleasedError(ConflictError):
    """A channel only ever names a version that devices may install."""

    code = "not-released"


def move_channel(
    session: Session, model: str, name: str, version: str, *, actor: str, now_ms: int
) -> Channel:
    """Let a channel name a version; naming the same again changes nothing.

    Raises:
        BadNameError: The channel's name is not well-formed.
        NotFoundError: There is no such version.
        NotReleasedError: It is not signed, or it is revoked.
    """
    check_name(name, "channel")
    row = require_version(session, model, version)
    if row.state is not State.RELEASED:
        raise NotReleasedError(
            f"the channel {name} cannot name {model} {version}: it is {row.state}",
            "Choose a released version.",
            state=str(row.state),
        )
    channel = session.get(Channel, (model, name))
    if channel is not None and channel.version == version:
        return channel
    before = None if channel is None else channel.version
    if channel is None:
        channel = Channel(model=model, name=name, version=version, moved_ms=now_ms)
    channel.version, channel.moved_ms = version, now_ms
    number = len(history_of(session, model, name)) + 1
    session.add(channel)
    session.add(
        ChannelMove(
            model=model,
            channel=name,
            number=number,
            version=version,
            actor=actor,
            moved_ms=now_ms,
        )
    )
    session.flush()
    detail = {"from": before, "to": version}
    audit.record(session, actor, "channel.moved", f"{model}:{name}", detail, at_ms=now_ms)
    return channel


def channels_of(session: Session, model: str) -> list[Channel]:
    """Return the channels of a model, by name."""
    statement = select(Channel).where(Channel.model == model)
    return list(session.exec(statement.order_by(col(Channel.name))))


def prominent_releases(session: Session) -> set[str]:
    """Return the ids of releases that a channel names, or that are a model's highest."""
    named = {(one.model, one.version) for one in session.exec(select(Channel))}
    released: dict[str, list[ModelVersion]] = {}
    for row in session.exec(
        select(ModelVersion).where(ModelVersion.state == State.RELEASED)
    ):
        released.setdefault(row.model, []).append(row)
    highest = {
        max(rows, key=lambda row: Version(row.version)).release
        for rows in released.values()
    }
    return highest | {
        row.release
        for rows in released.values()
        for row in rows
        if (row.model, row.version) in named
    }


def history_of(session: Session, model: str, name: str) -> list[ChannelMove]:
    """Return every move of a channel, oldest first."""
    return list(
        session.exec(
            select(ChannelMove)
            .where(ChannelMove.model == model, ChannelMove.channel == name)
            .order_by(col(ChannelMove.number))
        )
    )
