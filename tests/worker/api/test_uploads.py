"""Uploads over HTTP: streamed, capped, and good for their owner's scans."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.api.conftest import MAX_UPLOAD, Serve, Service, fields_of


def chunked(size: int) -> Iterator[bytes]:
    for _ in range(size // 4096):
        yield b"x" * 4096


def test_an_upload_is_a_source(service: Service) -> None:
    answer = service.client.post("/v1/uploads", content=chunked(65536), headers=service.as_("acme"))
    assert answer.status_code == 201
    assert answer.json()["size_bytes"] == 65536
    request = {"source": {"upload": answer.json()["id"]}}
    for _ in range(2):
        assert service.client.post("/v1/scans", json=request, headers=service.as_("acme")).status_code == 202
    theirs = service.client.post("/v1/scans", json=request, headers=service.as_("umbrella"))
    nobodys = service.client.post("/v1/scans", json={"source": {"upload": "0" * 32}}, headers=service.as_("umbrella"))
    assert fields_of(theirs)["code"] == "bad_request"
    assert theirs.json()["detail"] == nobodys.json()["detail"]


@pytest.mark.parametrize("told", [True, False])
def test_a_body_beyond_the_limit_is_cut(service: Service, told: bool) -> None:
    body = b"x" * (MAX_UPLOAD + 1) if told else chunked(MAX_UPLOAD + 65536)
    answer = service.client.post("/v1/uploads", content=body, headers=service.as_())
    assert (answer.status_code, fields_of(answer)["code"]) == (413, "too_large")


def test_an_upload_may_be_larger_than_a_request(service: Service) -> None:
    assert service.client.post("/v1/uploads", content=b"x" * MAX_UPLOAD, headers=service.as_()).status_code == 201


def test_forms_and_nothing_are_refused(service: Service) -> None:
    form = service.client.post("/v1/uploads", files={"file": b"abc"}, headers=service.as_())
    assert (form.status_code, fields_of(form)["code"]) == (415, "unsupported_media_type")
    empty = service.client.post("/v1/uploads", content=b"", headers=service.as_())
    assert (empty.status_code, fields_of(empty)["code"]) == (422, "empty")


def test_without_a_store_there_are_no_uploads(serve: Serve) -> None:
    service = serve(uploads=False)
    answer = service.client.post("/v1/uploads", content=b"x", headers=service.as_())
    assert (answer.status_code, fields_of(answer)["code"]) == (501, "not_configured")
    scan = service.client.post("/v1/scans", json={"source": {"upload": "0" * 32}}, headers=service.as_())
    assert (scan.status_code, fields_of(scan)["code"]) == (422, "bad_request")


def test_an_upload_waits_for_a_store_that_is_away(service: Service, tmp_path: Path) -> None:
    (tmp_path / "artifacts").rmdir()
    answer = service.client.post("/v1/uploads", content=b"abc", headers=service.as_())
    assert answer.status_code == 503
    assert fields_of(answer)["code"] == "storage_down"
