"""``python -m tests.chaos drive|audit|receive|serve|supervise ...``: the parts of the drill, each a process of its own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Break a running queue, then audit it.")
    parts = parser.add_subparsers(dest="part", required=True)
    drive = parts.add_parser("drive", help="the whole drill: start, submit, break, audit")
    drive.add_argument("--scans", type=int, default=200, help="scans to submit, at least")
    drive.add_argument("--faults", type=int, default=30, help="faults to inject, at least; each pair of kind and stage once")
    drive.add_argument("--seed", type=int, default=1)
    drive.add_argument("--workers", type=int, default=2, help="worker processes of each of the two supervisors")
    drive.add_argument("--short", action="store_true", help="short times and a fake scanner only: a minute")
    drive.add_argument("--watch-metrics", action="store_true", help="kill each part once; a Prometheus beside it is to see it")
    drive.add_argument("--folder", type=Path, help="keep the run's files in this new folder")
    audit = parts.add_parser("audit", help="compare what a run left: its files, Redis and the machine")
    audit.add_argument("folder", type=Path)
    receive = parts.add_parser("receive", help="the receiver of callbacks; prints its port")
    receive.add_argument("folder", type=Path)
    parts.add_parser("serve", help="the media server; prints its port")
    parts.add_parser("supervise", help="workers and a courier under a supervisor; its order comes on standard input")
    given = parser.parse_args()
    if given.part == "audit":
        from tests.chaos.audit import audit as compare

        return compare(given.folder)
    if given.part == "receive":
        from tests.chaos.receiver import receive as take_in

        return take_in(given.folder)
    if given.part == "serve":
        from tests.chaos.media import serve

        return serve()
    if given.part == "supervise":
        from tests.chaos.supervise import supervise

        return supervise()
    from tests.chaos.drive import drive as drill
    from tests.chaos.plan import Plan

    plan = Plan(
        scans=given.scans,
        faults=given.faults,
        seed=given.seed,
        workers=given.workers,
        short=given.short,
        watched=given.watch_metrics,
    )
    return drill(plan, given.folder)


if __name__ == "__main__":
    sys.exit(main())
