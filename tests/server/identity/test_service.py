"""Users, logins, tokens: against a real database."""

import pytest
from sqlmodel import select

from modelfleet_server.audit.tables import AuditEntry
from modelfleet_server.identity import domain, service
from modelfleet_server.identity.domain import HOUR_MS, Throttle, TokenKind
from modelfleet_server.identity.service import Attempt, Issued, NewUser, UserChange
from modelfleet_server.identity.tables import AccessToken, User
from modelfleet_server.kit.access import Actor, Credentials, Role
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import (
    AppError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    TooManyError,
    UnauthorizedError,
)

PASSWORD = "correct horse"
NOW = 1_700_000_000_000


@pytest.fixture
def ada(database: Database, actor: Actor) -> Actor:
    """An admin who can log in."""
    with database.write() as session:
        wish = NewUser("ada", Role.ADMIN, PASSWORD)
        service.create_user(session, wish, actor=actor, at_ms=NOW)
    return Actor("ada", Role.ADMIN)


def log_in(
    database: Database,
    password: str = PASSWORD,
    kind: TokenKind = TokenKind.LOGIN,
    *,
    name: str = "ada",
    throttle: Throttle | None = None,
) -> Issued:
    attempt = Attempt(name, password, "10.0.0.1")
    return service.log_in(database, throttle or Throttle(), attempt, kind, now=NOW)


def who(
    database: Database,
    *,
    bearer: str | None = None,
    cookie: str | None = None,
    form_token: str | None = None,
    safe: bool = True,
    now: int = NOW,
) -> Actor | None:
    shown = Credentials(bearer, cookie, form_token, safe)
    with database.read() as session:
        return service.authenticate(session, shown, now=now)


def test_neither_password_nor_token_is_stored(database: Database, ada: Actor) -> None:
    secret = log_in(database).secret
    with database.read() as session:
        user = session.exec(select(User)).one()
        token = session.exec(select(AccessToken)).one()
    assert user.password_hash.startswith("$argon2id$")
    assert PASSWORD not in user.password_hash
    assert secret not in str(token.model_dump())
    assert token.fingerprint == domain.fingerprint(secret)


def test_a_login_gives_a_token_that_stands_for_the_user(
    database: Database, ada: Actor
) -> None:
    assert who(database, bearer=log_in(database).secret) == ada


@pytest.mark.parametrize(
    ("name", "password"), [("ada", "wrong horse"), ("eve", PASSWORD), ("", "")]
)
def test_a_wrong_login_does_not_say_what_was_wrong(
    database: Database, ada: Actor, name: str, password: str
) -> None:
    with pytest.raises(UnauthorizedError) as caught:
        log_in(database, password, name=name)
    assert caught.value.what == "the user name or the password is wrong"


def test_a_failed_login_is_on_record_without_the_password(
    database: Database, ada: Actor
) -> None:
    with pytest.raises(UnauthorizedError):
        log_in(database, "a wrong password")
    with database.read() as session:
        last = session.exec(select(AuditEntry)).all()[-1]
    assert (last.action, last.subject) == ("login.failed", "ada")
    assert "wrong" not in last.detail


def test_guessing_is_slowed_down_and_then_even_the_right_password_waits(
    database: Database, ada: Actor
) -> None:
    throttle = Throttle()
    for _ in range(domain.FREE_GUESSES):
        with pytest.raises(UnauthorizedError):
            log_in(database, "a wrong password", throttle=throttle)
    with pytest.raises(TooManyError):
        log_in(database, throttle=throttle)


def test_a_token_ends_when_it_expires(database: Database, ada: Actor) -> None:
    issued = log_in(database)
    end = issued.token.expires_ms
    assert who(database, bearer=issued.secret, now=end - 1) == ada
    with pytest.raises(UnauthorizedError):
        who(database, bearer=issued.secret, now=end)


def test_a_token_ends_when_it_is_revoked(database: Database, ada: Actor) -> None:
    issued = log_in(database)
    with database.write() as session:
        service.revoke_token(session, issued.token.id, actor=ada, at_ms=NOW)
    with pytest.raises(UnauthorizedError):
        who(database, bearer=issued.secret)


def test_a_bearer_of_another_sort_is_left_to_others(database: Database, ada: Actor) -> None:
    assert who(database, bearer="mfd_some-device") is None


def test_nobody_revokes_the_token_of_somebody_else(database: Database, ada: Actor) -> None:
    issued = log_in(database)
    eve = Actor("eve", Role.APPROVER)
    with database.write() as session, pytest.raises(NotFoundError):
        service.revoke_token(session, issued.token.id, actor=eve, at_ms=NOW)
    assert who(database, bearer=issued.secret) == ada


def test_a_cookie_reads_and_writes_only_with_its_forms_token(
    database: Database, ada: Actor
) -> None:
    cookie = log_in(database, kind=TokenKind.SESSION).secret
    other = log_in(database, kind=TokenKind.SESSION).secret
    assert who(database, cookie=cookie) == ada
    token = domain.form_token(cookie)
    assert who(database, cookie=cookie, safe=False, form_token=token) == ada
    for wrong in (None, "", "ä", domain.form_token(other)):
        with pytest.raises(ForbiddenError, match="form"):
            who(database, cookie=cookie, safe=False, form_token=wrong)


def test_a_cookie_that_is_no_longer_good_is_nobody(database: Database, ada: Actor) -> None:
    issued = log_in(database, kind=TokenKind.SESSION)
    assert who(database, cookie=issued.secret, now=NOW + 13 * HOUR_MS) is None
    assert who(database, cookie="something else", safe=False) is None


def test_cookies_are_no_bearer_tokens_and_the_other_way_round(
    database: Database, ada: Actor
) -> None:
    session = log_in(database, kind=TokenKind.SESSION).secret
    with pytest.raises(UnauthorizedError):
        who(database, bearer=session)
    assert who(database, cookie=log_in(database).secret) is None


@pytest.mark.parametrize(
    "change", [UserChange(password="another password"), UserChange(disabled=True)]
)
def test_a_new_password_and_a_disabled_user_end_all_logins(
    database: Database, ada: Actor, change: UserChange
) -> None:
    with database.write() as session:
        second = NewUser("bob", Role.ADMIN, PASSWORD)
        service.create_user(session, second, actor=ada, at_ms=NOW)
    secret = log_in(database).secret
    with database.write() as session:
        service.change_user(session, "ada", change, actor=ada, at_ms=NOW)
    with pytest.raises(UnauthorizedError):
        who(database, bearer=secret)
    with pytest.raises(UnauthorizedError):
        log_in(database)


@pytest.mark.parametrize(
    "change", [UserChange(role=Role.VIEWER), UserChange(disabled=True)]
)
def test_the_last_admin_stays(database: Database, ada: Actor, change: UserChange) -> None:
    with pytest.raises(ConflictError, match="admin"), database.write() as session:
        service.change_user(session, "ada", change, actor=ada, at_ms=NOW)
    assert who(database, bearer=log_in(database).secret) == ada


@pytest.mark.parametrize(
    "wish",
    [
        NewUser("ada", Role.VIEWER, PASSWORD),
        NewUser("Not A Name", Role.VIEWER, PASSWORD),
        NewUser("bob", Role.VIEWER, "short"),
    ],
)
def test_a_user_that_cannot_be_changes_nothing(
    database: Database, ada: Actor, wish: NewUser
) -> None:
    with database.read() as session:
        before = [row.model_dump() for row in session.exec(select(User))]
    with pytest.raises(AppError), database.write() as session:
        service.create_user(session, wish, actor=ada, at_ms=NOW)
    with database.read() as session:
        assert [row.model_dump() for row in session.exec(select(User))] == before
