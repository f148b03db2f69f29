#!/usr/bin/env bash
# Make the repository's own environment, .venv, once. Used by run_medical_pipeline.sh and scripts/run_tests.sh.
#
#   scripts/setup_venv.sh [dev]       dev: also what the tests need
#
# It finds a Python 3.11 to 3.13 (or takes $PYTHON), makes .venv beside this folder, and installs this package with
# the versions in constraints.txt. A torch that .venv already has is kept, whatever its version and build, so that a
# second one is never installed. A stamp in .venv remembers what was installed, so that the next call does nothing.
# An environment that is active in your shell is neither used nor changed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
extra=${1:-}
venv=$root/.venv
cd "$root"

fingerprint=$(cat pyproject.toml constraints.txt | cksum)
stamp() { printf '%s/.installed%s' "$venv" "${1:+-$1}"; }
is_installed() { [[ -x $venv/bin/python && -f $(stamp "$1") && $(<"$(stamp "$1")") == "$fingerprint" ]]; }
if is_installed "$extra" || is_installed dev; then
    exit 0
fi

is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if is_supported "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or set PYTHON=/path/to/python" >&2
    return 1
}

started=$SECONDS
if ! is_supported "$venv/bin/python"; then
    python=$(find_python)
    echo "Setting up .venv with $("$python" --version) (once; a few minutes, most of it torch)"
    if ! "$python" -m venv --clear "$venv"; then
        echo "error: $python cannot make environments; on Debian and Ubuntu: apt install python3-venv" >&2
        exit 1
    fi
fi

pins=$(mktemp)
trap 'rm -f "$pins"' EXIT
torch=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null || true)
if [[ -n $torch ]]; then
    grep -v '^torch==' constraints.txt >"$pins"
    echo "torch==$torch" >>"$pins"
else
    cp constraints.txt "$pins"
fi

echo "Installing sam3d-medical${extra:+ with the extra $extra} into .venv"
options=(--disable-pip-version-check)
# Progress is for people; a log only needs the outcome.
[[ -t 1 ]] || options+=(--quiet)
"$venv/bin/python" -m pip install "${options[@]}" -c "$pins" -e ".${extra:+[$extra]}"
echo "$fingerprint" >"$(stamp "$extra")"
echo "Installed in $((SECONDS - started)) s"
