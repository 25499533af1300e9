"""Signing in with an API key, and out."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from worker.console.door import AnyForm, OwnForm, signed_in
from worker.console.parts import ROOT, Console, TheConsole
from worker.console.sessions import Session
from worker.errors import QueueFull, Unauthorized
from worker.queue.access import key_id_of

router = APIRouter()
BELOW = re.compile(r"[a-z0-9][a-z0-9/-]{0,99}", re.ASCII)
"""Where to go after signing in: a path below the console's, and nothing else."""


@router.get("/sign-in")
def ask(console: TheConsole, next: str = "") -> Response:
    return _asked(console, next, None)


@router.post("/sign-in")
def sign_in(request: Request, form: AnyForm, console: TheConsole) -> Response:
    """Attempts are counted by address and by the key that is tried: behind a proxy all come from one address, and whoever guesses
    there keeps nobody else out."""
    below, token = form.get("next") or "", (form.get("key") or "").strip()
    try:
        with console.api.silence.asked():
            console.attempts.request(f"@{request.client.host if request.client else 'nobody'}/{key_id_of(token) or ''}")
            cookie, _ = console.sessions.open(token)
    except QueueFull as exc:
        told = f"Too many attempts: come again in {exc.retry_after_s} s."
        return _asked(console, below, told, 429, {"Retry-After": str(exc.retry_after_s)})
    except Unauthorized:
        return _asked(console, below, "No such API key, or it has ended.", 401)
    if (before := request.cookies.get(console.cookie)) is not None:
        console.sessions.close(before)
    answer = RedirectResponse(f"{ROOT}/{below if BELOW.fullmatch(below) else ''}", 303)
    answer.set_cookie(
        console.cookie,
        cookie,
        max_age=console.sessions.keep_s,
        path="/",
        secure=console.secure or request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/sign-out")
def sign_out(request: Request, session: Annotated[Session, Depends(signed_in)], form: OwnForm, console: TheConsole) -> Response:
    console.sessions.close(request.cookies[console.cookie])
    answer = RedirectResponse(f"{ROOT}/sign-in", 303)
    answer.delete_cookie(console.cookie, path="/", secure=console.secure, httponly=True, samesite="strict")
    return answer


def _asked(
    console: Console, below: str, complaint: str | None, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    values = {"next": below if BELOW.fullmatch(below) else "", "complaint": complaint, "notice": None, "here": ""}
    return console.pages.page("sign_in.html", None, values, status=status, headers=headers)
