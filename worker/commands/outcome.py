"""Exit codes, and errors mapped to them: the outermost boundary of every command."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from worker.errors import ConfigError, ModelError, VeriframeError
from worker.exhausted import lacking
from worker.extras import extra_of, how_to_install
from worker.stdio import INTERNAL

if TYPE_CHECKING:
    from worker.report import Report

SCANNED = 0
FAIL_ON = 1
USAGE = 2
ITEMS_FAILED = 3

log = logging.getLogger(__name__)


def lost_its_stream(report: Report) -> bool:
    """Whether a watch ended before its stream did: it has a verdict on what was seen, and counts as ``ITEMS_FAILED``."""
    return report.watch is not None and report.watch.ending == "lost"


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn errors into a message on standard error and an exit code."""
    try:
        yield
    except (typer.Exit, typer.BadParameter):
        raise
    except (ConfigError, ModelError) as exc:
        short = lacking(exc)
        typer.echo(f"veriframe: {short or exc}", err=True)
        raise typer.Exit(INTERNAL if short else USAGE) from exc
    except ModuleNotFoundError as exc:
        extra = extra_of(exc.name or "")
        if extra is None:
            _tell_internal(exc)
            raise typer.Exit(INTERNAL) from exc
        typer.echo(f"veriframe: {exc.name} is not installed. To install it: {how_to_install(extra)}", err=True)
        raise typer.Exit(USAGE) from exc
    except VeriframeError as exc:
        typer.echo(f"veriframe: {exc}", err=True)
        raise typer.Exit(INTERNAL) from exc
    except Exception as exc:
        if short := lacking(exc):
            typer.echo(f"veriframe: {short}", err=True)
        else:
            _tell_internal(exc)
        raise typer.Exit(INTERNAL) from exc


def _tell_internal(exc: Exception) -> None:
    log.error("internal error", exc_info=exc)
    typer.echo(f"veriframe: internal error: {type(exc).__name__}: {exc}", err=True)
