"""Fixtures that more than one folder of tests needs."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The labelled media beside the repository; tests that need them skip, with the reason, where they are absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("needs the labelled media in ../shared/data, which are not on this machine")
    return folder
