"""The composition root: what a modelfleet server is made of, and how it starts and stops.

`wiring` is the one place where slices are plugged in, `web` makes the ASGI application,
`server` is the process.
"""

from modelfleet_server.app.server import Server
from modelfleet_server.app.web import create_app
from modelfleet_server.app.wiring import Duty, make_parts

__all__ = ["Duty", "Server", "create_app", "make_parts"]
