"""A site of the tests' own, for yt-dlp: its extractor reads a page of JSON from a loopback server and says what that says."""

from __future__ import annotations

import contextlib
from typing import Any

from yt_dlp.extractor.common import InfoExtractor


class LocalSiteIE(InfoExtractor):  # type: ignore[misc]  # has no types
    """``http://HOST:PORT/post/NAME``: the page is the info dictionary, its addresses relative to the page.

    What a page wants besides: ``ask`` (addresses that are asked for, come what may), ``need`` (one that must answer), ``say`` (an
    error in words), ``geo``, ``login``, ``drm``, ``run`` (a bug), ``manifest`` (a file that yt-dlp's own methods are given).
    """

    IE_NAME = "localsite"
    _VALID_URL = r"https?://[^/]+/post/(?P<id>[\w-]+)"

    def _real_extract(self, url: str) -> dict[str, Any]:
        name = self._match_id(url)
        page = self._download_json(url, name)
        for other in page.pop("ask", []):
            with contextlib.suppress(Exception):
                self._download_webpage(other, name)
        if "need" in page:
            self._download_webpage(page.pop("need"), name)
        if "say" in page:
            from yt_dlp.utils import ExtractorError

            raise ExtractorError(page["say"], expected=True)
        if page.pop("geo", False):
            self.raise_geo_restricted(countries=["NO"])
        if page.pop("login", False):
            self.raise_login_required()
        if page.pop("drm", False):
            self.report_drm(name)
        if page.pop("run", False):
            raise KeyError("a bug in the extractor")
        if page.pop("hls", None):
            page["formats"] = self._extract_m3u8_formats(url.rpartition("/post/")[0] + "/media.m3u8", name, "mp4")
        if (manifest := page.pop("manifest", None)) is not None:
            read = {"mpd": self._extract_mpd_formats, "ism": self._extract_ism_formats, "m3u8": self._extract_m3u8_formats}
            place = url.rpartition("/post/")[0]
            page["formats"] = read[manifest.rpartition(".")[2]](f"{place}/{manifest}", name, fatal=page.pop("fatal", True))
        return {"id": name, "title": name, **page}
