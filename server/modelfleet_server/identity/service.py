"""Users, logins and tokens."""

import hmac
from collections.abc import Sequence
from typing import NamedTuple

from sqlmodel import Session, col, select

from modelfleet_server.audit.service import record
from modelfleet_server.identity import domain
from modelfleet_server.identity.domain import Guess, Throttle, TokenKind
from modelfleet_server.identity.passwords import hash_password, verify_password
from modelfleet_server.identity.tables import AccessToken, User
from modelfleet_server.kit.access import Actor, Credentials, Role
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnauthorizedError,
)
from modelfleet_server.kit.ids import new_id, new_secret


class Issued(NamedTuple):
    """A new token; `secret` is shown once and stored nowhere."""

    secret: str
    token: AccessToken


class NewUser(NamedTuple):
    """Who shall be able to log in."""

    name: str
    role: Role
    password: str


class UserChange(NamedTuple):
    """What shall be different about a user; None leaves it as it is."""

    role: Role | None = None
    password: str | None = None
    disabled: bool | None = None


class Attempt(NamedTuple):
    """A password login: who says so, from which address."""

    name: str
    password: str
    address: str


def create_user(session: Session, wish: NewUser, *, actor: Actor, at_ms: int) -> User:
    """Add a user.

    Raises:
        InvalidError: The name or the password is not allowed.
        ConflictError: The name is taken.
    """
    domain.check_name(wish.name)
    domain.check_password(wish.password)
    password_hash = hash_password(wish.password)  # slow: before the transaction begins
    if session.get(User, wish.name) is not None:
        raise ConflictError(f"there is a user {wish.name} already", name=wish.name)
    user = User(
        name=wish.name,
        role=wish.role,
        password_hash=password_hash,
        created_ms=at_ms,
    )
    session.add(user)
    session.flush()
    record(session, str(actor), "user.created", user.name, {"role": user.role}, at_ms=at_ms)
    return user


def change_user(
    session: Session, name: str, change: UserChange, *, actor: Actor, at_ms: int
) -> User:
    """Change role, password or access; a new password or a disabled user ends all logins.

    Raises:
        NotFoundError: There is no such user.
        InvalidError: The password is not allowed.
        ConflictError: It would leave the server without an admin.
    """
    password_hash = None
    if change.password is not None:
        domain.check_password(change.password)
        password_hash = hash_password(change.password)  # slow: before the transaction
    user = _get_user(session, name)
    user.role = change.role or user.role
    user.password_hash = password_hash or user.password_hash
    user.disabled = user.disabled if change.disabled is None else change.disabled
    session.flush()
    _require_an_admin(session)
    if change.password is not None or change.disabled:
        for token in _live_tokens(session, name):
            token.revoked_ms = at_ms
    detail = {
        "role": user.role,
        "disabled": user.disabled,
        "password": change.password is not None,
    }
    record(session, str(actor), "user.changed", name, detail, at_ms=at_ms)
    return user


def log_in(
    database: Database, throttle: Throttle, attempt: Attempt, kind: TokenKind, *, now: int
) -> Issued:
    """Check a password and issue a token for it.

    Opens its own transactions: a failed attempt must be on record although it raises, and
    no transaction may stay open while Argon2 works.

    Raises:
        UnauthorizedError: No such user, wrong password, or disabled; it does not say which.
        TooManyError: Too many failures of this name or address.
    """
    guess = Guess(attempt.name, attempt.address)
    throttle.enter(guess, now)
    with database.read() as session:
        user = session.get(User, attempt.name)
    known = verify_password(user.password_hash if user else None, attempt.password)
    with database.write() as session:
        if user is not None and known and not user.disabled:
            throttle.forgive(guess)
            life = (
                domain.SESSION_LIFE_MS
                if kind is TokenKind.SESSION
                else domain.LOGIN_LIFE_MS
            )
            actor = Actor(user.name, user.role)
            return issue(session, actor, kind, f"{kind} login", at_ms=now, life_ms=life)
        record(
            session,
            "system:identity",
            "login.failed",
            attempt.name[:63],
            {"address": attempt.address},
            at_ms=now,
        )
    raise UnauthorizedError("the user name or the password is wrong")


def issue(
    session: Session, owner: Actor, kind: TokenKind, name: str, *, at_ms: int, life_ms: int
) -> Issued:
    """Make a token that stands for `owner` for `life_ms` milliseconds.

    Raises:
        InvalidError: The life is not between 1 ms and a year.
    """
    if not 0 < life_ms <= domain.TOKEN_LIFE_MS:
        raise InvalidError("a token lives at least a moment and at most a year")
    secret = domain.BEARER_PREFIX + new_secret()
    token = AccessToken(
        id=new_id(),
        user=owner.name,
        kind=kind,
        name=name,
        fingerprint=domain.fingerprint(secret),
        created_ms=at_ms,
        expires_ms=at_ms + life_ms,
    )
    session.add(token)
    session.flush()
    detail = {"token": token.id, "kind": kind, "name": name}
    record(session, str(owner), "token.issued", owner.name, detail, at_ms=at_ms)
    return Issued(secret, token)


def revoke_token(
    session: Session, token_id: str, *, actor: Actor, at_ms: int
) -> AccessToken:
    """End a token now. Admins may end anybody's, others their own.

    Raises:
        NotFoundError: There is no such token, or it is somebody else's.
    """
    token = session.get(AccessToken, token_id)
    may = token is not None and (actor.role is Role.ADMIN or token.user == actor.name)
    if token is None or not may:
        raise NotFoundError(f"you have no token {token_id}")
    if token.revoked_ms is None:
        token.revoked_ms = at_ms
        detail = {"token": token.id, "name": token.name}
        record(session, str(actor), "token.revoked", token.user, detail, at_ms=at_ms)
    return token


def authenticate(session: Session, shown: Credentials, *, now: int) -> Actor | None:
    """Recognise a user's bearer token or session cookie; an `Authenticator`.

    A cookie that is no longer good is nobody, so that a page can offer the login.

    Raises:
        UnauthorizedError: The bearer token is unknown, expired or revoked.
        ForbiddenError: A write with a cookie lacks the form token of that session.
    """
    if shown.bearer is not None:
        if not shown.bearer.startswith(domain.BEARER_PREFIX):
            return None
        actor = _find_owner(session, shown.bearer, now, cookie=False)
        if actor is None:
            raise UnauthorizedError(
                "the token is unknown, expired or revoked",
                "Log in again: modelfleet login.",
            )
        return actor
    actor = _find_owner(session, shown.cookie or "", now, cookie=True)
    if actor is not None and not shown.safe:
        _check_form(shown)
    return actor


def _check_form(shown: Credentials) -> None:
    expected = domain.form_token(shown.cookie or "")
    if not hmac.compare_digest(expected.encode(), (shown.form_token or "").encode()):
        raise ForbiddenError(
            "the form's token is missing or of another session",
            "Reload the page and try again.",
        )


def _find_owner(session: Session, secret: str, now: int, *, cookie: bool) -> Actor | None:
    found = session.exec(
        select(AccessToken, User)
        .join(User, col(User.name) == col(AccessToken.user))
        .where(AccessToken.fingerprint == domain.fingerprint(secret))
    ).first()
    if found is None:
        return None
    token, user = found
    alive = token.revoked_ms is None and now < token.expires_ms and not user.disabled
    if not alive or (token.kind is TokenKind.SESSION) is not cookie:
        return None
    return Actor(user.name, user.role)


def _get_user(session: Session, name: str) -> User:
    user = session.get(User, name)
    if user is None:
        raise NotFoundError(f"there is no user {name}", "See: GET /api/v1/users.")
    return user


def _live_tokens(session: Session, name: str) -> Sequence[AccessToken]:
    return session.exec(
        select(AccessToken).where(
            AccessToken.user == name, col(AccessToken.revoked_ms).is_(None)
        )
    ).all()


def _require_an_admin(session: Session) -> None:
    admins = select(User.name).where(User.role == Role.ADMIN, col(User.disabled).is_(False))
    if session.exec(admins.limit(1)).first() is None:
        raise ConflictError(
            "this would leave the server without an admin",
            "Make somebody else admin first.",
        )
