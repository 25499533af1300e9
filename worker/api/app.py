"""The application: routers, errors and what surrounds them, joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from worker import __version__
from worker.api import events, feedback, health, media, near, pages, problems, scans, uploads
from worker.api.middleware import BodyCap, Boundary, Linger
from worker.api.parts import Parts
from worker.queue.requests import ScanRequest

DESCRIPTION = (
    "Scan video and pictures for deepfaked faces, and watch live streams: a verdict with evidence for each. Hand over a scan, "
    "and read its report or be called back. Errors are problem details (RFC 9457) with a stable `code`."
)


def build_app(
    parts: Parts, *, max_body_bytes: int, max_upload_bytes: int, limits: Mapping[str, int] = MappingProxyType({})
) -> FastAPI:
    """An ASGI application; whoever built ``parts`` closes them. ``max_body_bytes`` is for everything but uploads, and but for the
    paths in ``limits``, which have their own."""
    app = _application()
    app.state.parts, app.state.own_threads = parts, {}
    app.add_middleware(BodyCap, max_bytes=max_body_bytes, exceptions={**limits, uploads.PATH: max_upload_bytes})
    app.add_middleware(Boundary, metrics=parts.metrics)
    app.add_middleware(Linger)
    return app


def openapi_document() -> dict[str, Any]:
    """What the application answers at ``/openapi.json``."""
    return _application().openapi()


def _application() -> FastAPI:
    app = FastAPI(
        title="veriframe",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    for router in (
        scans.router,
        pages.router,
        events.router,
        media.router,
        near.router,
        uploads.router,
        feedback.router,
        health.router,
    ):
        app.include_router(router)
    problems.handle_errors(app)

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """FastAPI's own, and the models that handlers read and answer by themselves."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    document["components"]["schemas"] |= _schemas((ScanRequest, feedback.Feedback, problems.Problem))
    return document


def _schemas(models: Iterable[type[BaseModel]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in models:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        found |= schema.pop("$defs", {})
        found[model.__name__] = schema
    return found
