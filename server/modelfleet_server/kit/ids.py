"""Random names."""

import secrets


def new_id() -> str:
    """Return 32 lower-case hexadecimal digits: 128 random bits."""
    return secrets.token_hex(16)


def new_secret() -> str:
    """Return 43 URL-safe characters: 256 random bits, for tokens and cookies."""
    return secrets.token_urlsafe(32)
