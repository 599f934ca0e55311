#!/usr/bin/env bash
# Make this checkout ready to run: .venv with the locked packages and the mcp-sidecar command, node_modules with the
# real servers of the tests, compiled bytecode. Safe to repeat; the second time it takes a fraction of a second.
# What the machine lacks is installed with apt-get where that is possible (root, or sudo without a password).
# A missing Node.js only skips the tests that need it; a missing Python or Go is an error.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/.setup-stamp
inputs=(pyproject.toml requirements.lock package.json package-lock.json .npmrc scripts/setup.sh)
want="$(cat "${inputs[@]}" | cksum) $(command -v python3 || true) $(command -v node || true) $PWD"

compile() {
    .venv/bin/python -m compileall -q -j 0 sidecar
}

if [ -x .venv/bin/mcp-sidecar ] && [ "$(cat "$stamp" 2>/dev/null || true)" = "$want" ]; then
    compile
    exit 0
fi

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

apt_ready=
install_system() {
    command -v apt-get >/dev/null || return 1
    if [ -z "$apt_ready" ]; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update >&2 || return 1
        apt_ready=1
    fi
    say "installing $* with apt-get"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >&2
}

python_fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if python_fits "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

node_fits() { [ "$(node -p 'process.versions.node.split(".")[0] >= 20' 2>/dev/null)" = true ] && command -v npm >/dev/null; }

python="$(find_python)" || { install_system python3 python3-venv && python="$(find_python)"; } \
    || die "Python 3.11 or newer is needed; name it with PYTHON=/path/to/python3"
if ! { [ -x .venv/bin/python ] && python_fits .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; }; then
    say "making .venv with $python"
    if ! "$python" -m venv --clear .venv 2>/dev/null; then
        install_system python3-venv || die "$python has no venv module: install python3-venv"
        "$python" -m venv --clear .venv
    fi
fi
rm -f "$stamp"

say "installing the locked Python packages"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
# The compat mode adds one plain path: the other kinds of editable install run an import hook at every start.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --config-settings editable_mode=compat --editable .

command -v go >/dev/null || die "Go 1.21 or newer is needed (it brings 1.24 by itself)"

if node_fits || { install_system nodejs npm && node_fits; }; then
    say "installing the locked Node.js packages"
    npm ci --silent --ignore-scripts >&2
else
    say "no Node.js 20: the tests that need it will be skipped by name"
fi

# The stores for credentials, the clock and the browser that the tests use for real: program, then the package that has it.
missing=()
for pair in dbus-run-session:dbus-daemon gnome-keyring-daemon:gnome-keyring redis-server:redis-server \
    faketime:faketime chromium:chromium; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if [ "${#missing[@]}" -gt 0 ]; then
    install_system "${missing[@]}" || say "no ${missing[*]}: the tests that need them will be skipped by name"
fi

say "compiling bytecode"
.venv/bin/python -m compileall -q -j 0 .venv/lib || true # some packages carry templates that are no Python
compile
.venv/bin/mcp-sidecar --version >/dev/null
printf '{"jsonrpc":"2.0","id":1,"method":"sidecar/health"}\n' | .venv/bin/mcp-sidecar >/dev/null
printf '%s' "$want" >"$stamp"
