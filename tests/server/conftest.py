"""Fixtures for all server tests; see `tests/support/server.py`."""

from tests.support.server import actor, blobs, database, server, whole_server

__all__ = ["actor", "blobs", "database", "server", "whole_server"]
