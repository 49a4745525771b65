"""The ASGI application: routes, problem documents, security headers."""

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelfleet_server.app.wiring import MOUNTS, ROUTERS
from modelfleet_server.kit.parts import Parts
from modelfleet_server.kit.problems import register_problems

OPENAPI_URL = "/api/v1/openapi.json"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; manifest-src 'self'; worker-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types mf"
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SecureHeaders:
    """ASGI middleware: adds `HEADERS`, and `no-store` unless the answer says else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


def create_app(parts: Parts) -> FastAPI:
    """Make the application. It starts nothing; the parts must outlive it."""
    app = FastAPI(
        title="modelfleet",
        openapi_url=OPENAPI_URL,
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
    )
    app.state.parts = parts
    register_problems(app)
    for router in ROUTERS:
        app.include_router(router)
    for path, mounted in MOUNTS:
        app.mount(path, mounted)
    app.add_middleware(SecureHeaders)
    return app
