#!/usr/bin/env bash
# Set everything up and run all checks: ruff, mypy, pytest. Ends with status 0 when all pass.
#
#   ./scripts/run_tests.sh [PYTEST OPTIONS]     e.g. ./scripts/run_tests.sh tests/mesh -x
#
# The first run makes .venv (see scripts/setup_venv.sh), which takes a few minutes; the checks take about a quarter
# of an hour on two cores. Tests that need the reference folder beside the repository are skipped, with the reason,
# where it is absent; so are those of the report in a browser without Chromium (apt install chromium, or $CHROMIUM).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
started=$SECONDS
bash scripts/setup_venv.sh dev

step() {
    local name=$1 began=$SECONDS
    shift
    echo "== $name: $*"
    "$@"
    echo "== $name passed in $((SECONDS - began)) s"
}

# Two processes with one thread each: tests are small, and threads that compete make them slower.
export OMP_NUM_THREADS=1
step ruff .venv/bin/ruff check .
step mypy .venv/bin/mypy
step pytest .venv/bin/pytest -n 2 "$@"
echo "All checks passed in $((SECONDS - started)) s"
