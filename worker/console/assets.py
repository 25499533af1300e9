"""Style sheets, scripts, icon: our own from this package, htmx and uPlot where ``make assets`` has put them; none from afar."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request, Response

from worker.api.problems import HttpError
from worker.pages.render import style

KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
FOREVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "public, no-cache"
router = APIRouter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    data: bytes
    media_type: str
    version: str


class Assets:
    """Read once, at the start: a few files of some 100 kB together."""

    def __init__(self, found: Mapping[str, bytes]) -> None:
        self._found = {
            name: Asset(data=data, media_type=KINDS[_suffix(name)], version=hashlib.sha256(data).hexdigest()[:16])
            for name, data in found.items()
        }

    def get(self, name: str) -> Asset | None:
        return self._found.get(name)

    def url(self, name: str) -> str | None:
        """With the content's version, so that browsers keep it for good; None: it is not here."""
        asset = self._found.get(name)
        return None if asset is None else f"/console/assets/{name}?v={asset.version}"


def packaged_assets() -> Assets:
    package = files("worker.console")
    return Assets({"pages.css": style().encode(), **dict(_files(package / "assets")), **dict(_files(package / "static"))})


@router.get("/assets/{name}")
def show_asset(name: str, request: Request) -> Response:
    """For anyone: nothing in it is anyone's."""
    asset: Asset | None = request.app.state.console.assets.get(name)
    if asset is None:
        raise HttpError(404, "there is no such file")
    is_exact = request.query_params.get("v") == asset.version
    headers = {"Cache-Control": FOREVER if is_exact else ASK_AGAIN, "ETag": f'"{asset.version}"'}
    if request.headers.get("if-none-match", "").removeprefix("W/") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(asset.data, media_type=asset.media_type, headers=headers)


def _files(folder: Traversable) -> Iterator[tuple[str, bytes]]:
    if folder.is_dir():
        for entry in folder.iterdir():
            if entry.is_file() and _suffix(entry.name) in KINDS:
                yield entry.name, entry.read_bytes()


def _suffix(name: str) -> str:
    return name[name.rfind(".") :] if "." in name else ""
