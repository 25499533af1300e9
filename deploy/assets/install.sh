#!/usr/bin/env bash
# The console's page assets: npm checks each package against the lock's hashes, and runs none of its code; what pages use is copied
# into the package, where a wheel takes it along. Axe, which the tests check pages with, stays in .tools/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if ! command -v npm >/dev/null; then
    echo "make assets needs npm (Node.js 18 or newer), which is not installed. Without, the console serves its plain pages." >&2
    exit 1
fi
here=deploy/assets there=.tools/npm to=worker/console/assets
mkdir -p "$there" "$to"
cp "$here/package.json" "$here/package-lock.json" "$there/"
if ! npm --prefix "$there" ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >"$there/npm.log" 2>&1; then
    tail -n 5 "$there/npm.log" >&2
    echo "make assets could not install the page assets: is the package registry reachable? All of npm's words: $there/npm.log" >&2
    exit 1
fi
from="$there/node_modules"
cp "$from/htmx.org/dist/htmx.min.js" "$from/uplot/dist/uPlot.iife.min.js" "$from/uplot/dist/uPlot.min.css" "$to/"
cp "$from/htmx.org/LICENSE" "$to/htmx-LICENSE.txt"
cp "$from/uplot/LICENSE" "$to/uPlot-LICENSE.txt"
chmod u=rw,go=r "$to"/*
