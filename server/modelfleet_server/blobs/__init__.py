"""Bytes by their SHA-256: put once, never changed, served to whoever knows the digest."""
