"""yt-dlp as a library: it reads a site's pages and says where the video lies. Imported only when a post is looked at.

Shut in: extractors of the list alone; no plugins, cache, configuration, external programs or post-processing; every request goes
through the guarded client, websockets and all that is not http are refused; what is downloaded in the end, we download ourselves.
"""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import MozillaCookieJar
from pathlib import Path
from typing import Any, Final

import httpx
from yt_dlp import YoutubeDL
from yt_dlp.extractor import gen_extractor_classes
from yt_dlp.networking import Request, RequestHandler, Response
from yt_dlp.networking.exceptions import HTTPError, RequestError, TransportError, network_exceptions
from yt_dlp.utils import DownloadError, ExtractorError, GeoRestrictedError, UnsupportedError, YoutubeDLError

from worker.errors import ConfigError, FetchError, FetchGeo, FetchRefused, FetchTimeout, UnsupportedMedia, VeriframeError
from worker.source.answers import decoded, error_of_proxy, error_of_status
from worker.source.client import retry_after_s
from worker.source.manifests import bounded
from worker.source.refusals import error_of_text

MAX_PAGE_BYTES: Final = 16 << 20
MAX_ALL_PAGES_BYTES: Final = 128 << 20
"""Of a site, for one post."""
MAX_FORMATS: Final = 300
"""Of a video; what lies beyond is not looked at."""
_NOT_NEEDED: Final = ("thumbnails", "subtitles", "automatic_captions", "chapters", "comments", "heatmap", "tags", "categories")
_OURS: Final = ("accept-encoding", "connection", "host", "content-length", "transfer-encoding", "cookie")
"""Headers that are made here, whatever an extractor says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a page holds: yt-dlp's description of one video, and the cookies that it had by then."""

    info: Mapping[str, Any]
    jar: Any

    def cookie_for(self, url: str) -> str | None:
        header: str | None = self.jar.get_cookie_header(url)
        return header


def extractors_of(names: Iterable[str], extra: Sequence[type[Any]] = ()) -> list[type[Any]]:
    """yt-dlp's extractors whose name, up to the colon, is in ``names``; never the one that takes any address."""
    wanted = {name.lower() for name in names} - {"generic"}
    return [*extra, *(one for one in gen_extractor_classes() if str(one.IE_NAME).lower().partition(":")[0] in wanted)]


def look_at(
    url: str,
    *,
    client: httpx.Client,
    extractors: Sequence[type[Any]],
    items: int,
    max_redirects: int,
    max_segments: int,
    cookies: Path | None = None,
) -> list[Found]:
    """The videos of a post, the first ``items`` if it is a list of them. ``max_segments``: of a manifest that an extractor reads.
    ``cookies``: a file in Netscape's format.

    Raises FetchError, UnsupportedMedia; ConfigError for a file of cookies that cannot be read.
    """
    refused: list[FetchError] = []
    handler = functools.partial(_GuardedRH, client=client, max_redirects=max_redirects, refused=refused)
    with _translated(refused):
        downloader = _Downloader(_options(items), handler, max_segments)
        try:
            if cookies is not None:
                _load(downloader.cookiejar, cookies)
            for one in extractors:
                downloader.add_info_extractor(one)
            info = downloader.extract_info(url, download=False)
            return [Found(info=one, jar=downloader.cookiejar) for one in _videos(info, items)]
        finally:
            downloader.close()


def _options(items: int) -> dict[str, Any]:
    return {
        "quiet": True,
        "noprogress": True,
        "logger": _Silent(),
        "color": "never",
        "cachedir": False,
        "noplaylist": True,
        "playlist_items": f"1:{max(items, 1)}",
        "format": "all",
        "skip_download": True,
        "postprocessors": [],
        "js_runtimes": {},
        "remote_components": [],
        "enable_file_urls": False,
        "usenetrc": False,
        "geo_bypass": False,
        "check_formats": False,
        "allow_unplayable_formats": False,
        "retries": 0,
        "extractor_retries": 1,
        "proxy": "",
    }


def _load(jar: Any, cookies: Path) -> None:
    """Not by yt-dlp, which prints the lines that it cannot read, and writes the file at the end."""
    read = MozillaCookieJar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "http.cookiejar bug!", of a line that is no cookie
            read.load(str(cookies), ignore_discard=True, ignore_expires=True)
    except (OSError, UnicodeError) as exc:
        raise ConfigError(f"source.cookies: {cookies} cannot be read as a file of cookies ({type(exc).__name__})") from exc
    for cookie in read:
        if cookie.expires == 0:  # how other programs write cookies that last as long as the session
            cookie.expires, cookie.discard = None, True
        jar.set_cookie(cookie)


def _videos(info: Any, items: int) -> Iterator[Mapping[str, Any]]:
    if not isinstance(info, Mapping):
        raise UnsupportedMedia("nothing was found at this address")
    if info.get("_type", "video") == "video":
        yield info
        return
    entries = [entry for entry in list(info.get("entries") or ())[: max(items, 1)] if isinstance(entry, Mapping)]
    if items < 1:
        raise UnsupportedMedia("a list of several videos (source.playlist_items)")
    if not entries:
        raise UnsupportedMedia("a post without video")
    for entry in entries:
        yield from _videos(entry, 1)


class _Silent:
    """yt-dlp's messages hold addresses with all that is secret in them."""

    def debug(self, message: str) -> None:
        pass

    info = warning = error = debug


class _Downloader(YoutubeDL):  # type: ignore[misc]  # has no types
    """A YoutubeDL that knows the given extractors alone, has one way to the network, and reads manifests by our readers."""

    def __init__(self, options: dict[str, Any], handler: Any, max_segments: int) -> None:
        self._only_handler, self._max_segments = handler, max_segments
        super().__init__(options, auto_init=False)

    def get_info_extractor(self, ie_key: str) -> Any:
        """Also where an extractor asks for another one: of the list alone."""
        found = self._ies_instances.get(ie_key)
        if found is None:
            if ie_key not in self._ies:
                raise UnsupportedError(ie_key)
            found = bounded(self._ies[ie_key](), max_segments=self._max_segments)
            self.add_info_extractor(found)
        return found

    def process_video_result(self, info_dict: Any, download: bool = True) -> Any:
        """Much is done for each format, and for what is not needed."""
        for name in _NOT_NEEDED:
            info_dict.pop(name, None)
        if isinstance(info_dict.get("formats"), list):
            del info_dict["formats"][MAX_FORMATS:]
        return super().process_video_result(info_dict, download)

    def build_request_director(self, handlers: Any, preferences: Any = None) -> Any:
        return super().build_request_director([self._only_handler])


class _GuardedRH(RequestHandler):  # type: ignore[misc]  # has no types
    """Sends requests by the guarded client; each hop passes the guard."""

    _SUPPORTED_URL_SCHEMES = ("http", "https")
    _SUPPORTED_PROXY_SCHEMES = ()
    _SUPPORTED_FEATURES = ()

    def __init__(self, *, client: httpx.Client, max_redirects: int, refused: list[FetchError], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._client, self._max_redirects, self._refused = client, max_redirects, refused
        self._left_bytes = MAX_ALL_PAGES_BYTES

    def _check_extensions(self, extensions: dict[str, Any]) -> None:
        super()._check_extensions(extensions)
        for name in ("cookiejar", "timeout", "legacy_ssl", "keep_header_casing"):
            extensions.pop(name, None)

    def _send(self, request: Request) -> Response:
        headers = {name: value for name, value in self._get_headers(request).items() if name.lower() not in _OURS}
        cookies = httpx.Cookies(self._get_cookiejar(request))
        try:
            hop = self._client.build_request(
                request.method, request.url, headers={**headers, "accept-encoding": "identity"}, content=request.data
            )
            for _ in range(self._max_redirects + 1):
                hop.headers.pop("cookie", None)
                cookies.set_cookie_header(hop)
                response = self._client.send(hop, stream=True)
                try:
                    cookies.extract_cookies(response)
                    if response.next_request is None:
                        return self._answered(response)
                    hop = response.next_request
                finally:
                    response.close()
        except FetchError as exc:
            self._refused.append(exc)
            raise TransportError(cause=exc) from exc
        except httpx.ProxyError as exc:
            self._refused.append(error_of_proxy(exc))
            raise TransportError(type(exc).__name__) from exc
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as exc:
            raise TransportError(type(exc).__name__) from exc
        raise TransportError("too many redirects")

    def _answered(self, response: httpx.Response) -> Response:
        """The whole answer, in memory. Raises HTTPError."""
        held = bytearray()
        for piece in decoded(response, response.iter_raw()):
            held += piece
            self._left_bytes -= len(piece)
            if len(held) > MAX_PAGE_BYTES or self._left_bytes < 0:
                raise TransportError("a page that is too large")
        headers = {name: value for name, value in response.headers.items() if name not in ("content-encoding", "content-length")}
        answer = Response(io.BytesIO(bytes(held)), url=str(response.url), headers=headers, status=response.status_code)
        if not response.is_success:
            raise HTTPError(answer)
        return answer


@contextmanager
def _translated(refused: Sequence[FetchError]) -> Iterator[None]:
    """yt-dlp's errors as ours."""
    try:
        yield
    except YoutubeDLError as exc:
        error = error_of(exc)
        if refused and isinstance(error, FetchTimeout | UnsupportedMedia):  # which came of it
            raise refused[-1] from exc
        raise error from exc
    except VeriframeError:
        raise
    except Exception as exc:  # extractors read what strangers wrote, and stumble over it in every way
        raise UnsupportedMedia(f"the site's page could not be read ({type(exc).__name__})") from exc


def error_of(error: BaseException) -> VeriframeError:
    """What an error of yt-dlp's means: by its kind, by the status behind it, and only then by its words."""
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, GeoRestrictedError):
            return FetchGeo("the site does not show this where we are")
        if isinstance(one, UnsupportedError):
            return UnsupportedMedia("an address of no kind that is read from this site")
    for one in chain:
        if isinstance(one, HTTPError):
            wait_s = retry_after_s(httpx.Response(one.status, headers=_retry_after(one)))
            return error_of_status(one.status, wait_s, httpx.URL(one.response.url).host)
        if isinstance(one, network_exceptions):
            return FetchTimeout("the site did not answer")
        if isinstance(one, RequestError):
            return FetchRefused("the site leads to an address of a kind that is not fetched")
    told = next((one.orig_msg for one in chain if isinstance(one, ExtractorError)), None)
    if told is None:
        return UnsupportedMedia("an address of no kind that is read from this site")
    return error_of_text(told)


def _retry_after(error: HTTPError) -> dict[str, str]:
    value = error.response.get_header("retry-after")
    return {"retry-after": value} if value else {}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came of, yt-dlp's own notes of them included."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(seen) < 20:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or any(one is known for known in seen):
            continue
        seen.append(one)
        exc_info = getattr(one, "exc_info", None) if isinstance(one, DownloadError | ExtractorError) else None
        waiting += [getattr(one, "cause", None), exc_info[1] if exc_info else None, one.__cause__, one.__context__]
    yield from seen
