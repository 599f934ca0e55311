#!/usr/bin/env bash
# Pin every package that pyproject.toml leads to, with hashes and without addresses, for all Pythons from 3.11 on.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x build/lock/bin/uv ] || { python3 -m venv build/lock && build/lock/bin/python -m pip install --quiet uv==0.13.8; }
build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes \
    --no-emit-index-url --no-header --no-annotate "$@" pyproject.toml --output-file requirements.lock
echo "atheris==3.0.0" | build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-header --no-annotate - --output-file requirements-fuzz.lock
npm install --package-lock-only --silent
if grep -nE 'https?://.*\.(tgz|whl|gz)|"resolved"' requirements.lock requirements-fuzz.lock package-lock.json; then
    echo "lock: a download address stands in a lock file" >&2
    exit 1
fi
