"""How the agent may use its network: `[link]` of its settings file."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from modelfleet_agent.settings.windows import Window, parse_window

Pattern = Annotated[str, Meta(min_length=1, max_length=63)]
Patterns = Annotated[tuple[Pattern, ...], Meta(min_length=1, max_length=32)]
Texts = Annotated[tuple[str, ...], Meta(max_length=32)]
Mebibytes = Annotated[int, Meta(ge=1, le=1 << 30)]
METERED = ("wwan*", "wwp*", "rmnet*", "ccmni*", "ppp*")
"""Cellular modems, as Linux names them."""


class LinkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be downloaded, when, over which link, from whom.

    Nothing here holds back documents, trust metadata and reports: they are small, and a
    recall must arrive.

    Attributes:
        interfaces: Patterns of the interfaces that files may come over.
        metered: Patterns of those whose bytes cost money.
        budget_mb_per_day: MiB in a day of `zone`, when files wait; absent: no limit.
        budget_mb_per_month: MiB in a month.
        budget_counts: Count every link's bytes, or metered ones only.
        windows: When files may be downloaded; none: at any time.
        zone: Time zone of windows, days and months, such as `Europe/Berlin`.
        jitter_s: A download begins a random time below this after it could.
        proxy: HTTP proxy for everything, `http://[user:password@]host:port`; MQTT takes a
            tunnel through it.
        no_proxy: Patterns of host names and addresses that are asked directly.
        mirrors: Base addresses that are asked for files before the server.
        min_rate: Slower than this, bytes per second over `rate_window_s`, is given up.
        rate_window_s: Seconds that a slow transfer is watched for.
        fallback: When a whole file may follow a delta that is of no use: `never`, `wifi`
            (over an interface that is not metered), or `always`.
    """

    interfaces: Patterns = ("*",)
    metered: Texts = METERED
    budget_mb_per_day: Mebibytes | None = None
    budget_mb_per_month: Mebibytes | None = None
    budget_counts: Literal["all", "metered"] = "all"
    windows: Texts = ()
    zone: str = "UTC"
    jitter_s: Annotated[int, Meta(ge=0, le=86_400)] = 0
    proxy: str | None = None
    no_proxy: Texts = ()
    mirrors: Annotated[tuple[str, ...], Meta(max_length=16)] = ()
    min_rate: Annotated[int, Meta(ge=0, le=1 << 30)] = 256
    rate_window_s: Annotated[float, Meta(ge=0.1, le=3600)] = 30.0
    fallback: Literal["never", "wifi", "always"] = "always"

    @property
    def parsed_windows(self) -> list[Window]:
        """`windows`, read."""
        return [parse_window(one) for one in self.windows]

    def proxy_for(self, base: str) -> str:
        """Return the proxy that is to be asked for `base`; "" where none is."""
        return self.proxy_to(urlsplit(base).hostname or "")

    def proxy_to(self, host: str) -> str:
        """Return the proxy that leads to `host`; "" where it is asked directly."""
        host = host.lower()
        direct = any(fnmatchcase(host, pattern.lower()) for pattern in self.no_proxy)
        return "" if direct else self.proxy or ""


class SwitchSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a new release may be tested and put into service: `[switch]`.

    Attributes:
        windows: When; none: at any time.
        zone: Their time zone.
    """

    windows: Texts = ()
    zone: str = "UTC"

    @property
    def parsed_windows(self) -> list[Window]:
        """`windows`, read."""
        return [parse_window(one) for one in self.windows]


def check_windows(texts: Iterable[str]) -> None:
    """Return where every text is a window.

    Raises:
        ValueError: One is none; the message names it.
    """
    for text in texts:
        try:
            parse_window(text)
        except ValueError as error:
            raise ValueError(f"{text!r} is no window: {error}") from None


def check_zone(name: str) -> None:
    """Return where this machine knows the zone.

    Raises:
        ValueError: It does not.
    """
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - only where a file names a zone

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        what = f"{name!r} is no time zone of this machine, such as Europe/Berlin or UTC"
        raise ValueError(what) from None


def check_base(url: str, *, proxy: bool = False) -> None:
    """Return where `url` is a base address; only a proxy's may carry a password.

    Raises:
        ValueError: It is none.
    """
    schemes = ("http",) if proxy else ("http", "https")
    try:
        parts = urlsplit(url)
        fits = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    else:
        fits = fits and not (parts.query or parts.fragment)
        fits = fits and (proxy or parts.username is None)
    if not fits:
        raise ValueError(
            f"{_without_password(url)!r} is no address of {' or '.join(schemes)}"
        )


def _without_password(url: str) -> str:
    before, at, host = url.rpartition("@")
    scheme, mark, _ = before.partition("://")
    return f"{scheme}{mark}…{at}{host}" if at else url
