"""The console as an application of its own, mounted beside the API: routes, error pages, and the headers of every answer."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.api.parts import Parts
from worker.console import actions, assets, dead, files, overview, scans, sign_in, submit
from worker.console.faults import handle_errors
from worker.console.live import Board
from worker.console.look import Lookout
from worker.console.parts import ROOT, Console
from worker.console.render import Pages
from worker.console.sessions import Sessions
from worker.queue.callbacks import Callbacks
from worker.queue.quotas import Quotas

ATTEMPTS_PER_MINUTE = 30
"""Sign-ins with one key from one address. A key cannot be guessed; this spares Redis the guessing."""
NO_LIMIT = 1 << 62
LIMITS = {submit.PATH: NO_LIMIT}
"""Bodies that the console caps by itself, so that a page tells of it."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    # Not no-referrer: with it, browsers hide a form's origin even from its own site.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class Headed:
    """Puts the headers of pages on every answer that does not have its own, that of a fault of ours too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, headed)


def mount_console(app: FastAPI, parts: Parts, *, secure: bool, session_s: int, max_upload_bytes: int) -> FastAPI:
    """Serve the console below ``/console`` of the API's application, on the same parts; the console's own is given back."""
    records = parts.desk.records
    found = assets.packaged_assets()
    look = Lookout(desk=parts.desk, roster=parts.roster)
    console = _application()
    console.state.console = Console(
        api=parts,
        sessions=Sessions(records.redis, parts.keys, records.namespace, keep_s=session_s),
        attempts=Quotas(records.redis, records.namespace, requests_per_minute=ATTEMPTS_PER_MINUTE),
        callbacks=Callbacks(records.redis, records.namespace),
        look=look,
        pages=Pages(found),
        board=Board(look),
        assets=found,
        secure=secure,
        max_upload_bytes=max_upload_bytes,
    )
    app.add_api_route(ROOT, _to_overview, include_in_schema=False)
    app.mount(ROOT, Headed(console))
    return console


def _application() -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    for part in (sign_in, overview, scans, files, actions, dead, submit, assets):
        app.include_router(part.router)
    handle_errors(app)
    return app


async def _to_overview() -> RedirectResponse:
    return RedirectResponse(f"{ROOT}/", 307)
