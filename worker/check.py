"""One line of ``veriframe doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "bad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """``bad`` stops a scan, ``note`` does not. ``mend`` says what to do about either."""

    name: str
    status: Status
    detail: str
    mend: str = ""
