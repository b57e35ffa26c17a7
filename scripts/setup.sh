#!/usr/bin/env bash
# Sets this checkout up: what is missing of the system's packages (apt), then .venv with hash-locked Python packages.
# Usage: scripts/setup.sh [server|dev]
#   server   what `make demo` needs (default)
#   dev      what tests, lint and docs need as well
# Says nothing and takes no time when all is there. Remake the locks with `make lock`.
set -euo pipefail

level=${1:-server}
case $level in
  server | dev) ;;
  *)
    echo "usage: scripts/setup.sh [server|dev]" >&2
    exit 2
    ;;
esac
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
root=$PWD

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}

# ------------------------------------------------------------------------------------------------- is all there already?

fingerprint() {
  {
    printf '%s\n' "$root" "$1"
    cat -- pyproject.toml requirements/build.in requirements/installer.txt "requirements/$1.txt"
  } | sha256sum | cut -d' ' -f1
}

done_already() {
  [ -x .venv/bin/medperf ] && [ -f ".venv/.stamp-$1" ] && [ "$(cat ".venv/.stamp-$1")" = "$(fingerprint "$1")" ]
}

finished() { done_already "$level" || { [ "$level" = server ] && done_already dev; }; }

if command -v bwrap >/dev/null 2>&1 && finished; then exit 0; fi

# ------------------------------------------------------------------------------------------------------ system packages

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1; then
    if [ -t 0 ]; then sudo "$@"; else sudo -n "$@"; fi
  else
    return 127
  fi
}

# Runs apt-get and waits while another program holds one of its locks (at most ten minutes). What it says goes to a file.
apt() {
  local status attempt
  for attempt in $(seq 1 60); do
    status=0
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=600 "$@" >"$apt_log" 2>&1 </dev/null || status=$?
    if [ "$status" -eq 0 ] || ! grep -qE 'Could not get lock|Unable to lock|Unable to acquire' "$apt_log"; then break; fi
    [ "$attempt" -gt 1 ] || say "waiting for another package manager to finish"
    sleep 10
  done
  return "$status"
}

install_packages() {
  command -v apt-get >/dev/null 2>&1 || die "please install: $* (this is no Debian, so it cannot be done from here)"
  if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null 2>&1; then
    die "please ask an administrator for: apt-get install $*"
  fi
  say "installing $*"
  apt_log=$(mktemp)
  # Package lists of a bare machine are empty or old; fetching them is left out where they serve.
  if ! apt install --no-install-recommends "$@" && ! { apt update && apt install --no-install-recommends "$@"; }; then
    tail -n 5 "$apt_log" >&2
    die "could not install: $*. Install them by hand (apt-get install $*) and try again."
  fi
  rm -f -- "$apt_log"
}

# The first Python from 3.11 on that can make virtual environments.
find_python() {
  local name
  for name in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.14 /usr/bin/python3; do
    [ -n "$name" ] && command -v "$name" >/dev/null 2>&1 || continue
    if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      # The interpreter itself, not a shim in front of it.
      "$name" -c 'import sys; print(sys.executable)'
      return 0
    fi
  done
  return 1
}

missing=()
command -v bwrap >/dev/null 2>&1 || missing+=(bubblewrap)
command -v tar >/dev/null 2>&1 || missing+=(tar)
command -v make >/dev/null 2>&1 || missing+=(make)
[ -e /etc/ssl/certs/ca-certificates.crt ] || [ -n "${SSL_CERT_FILE:-}" ] || missing+=(ca-certificates)
if [ "$level" = dev ]; then
  command -v git >/dev/null 2>&1 || missing+=(git)
  compgen -G '/usr/lib/*/libseccomp.so.2*' >/dev/null || compgen -G '/lib/*/libseccomp.so.2*' >/dev/null || missing+=(libseccomp2)
fi
find_python >/dev/null || missing+=(python3 python3-venv)
[ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"

# ------------------------------------------------------------------------------------------------------ Python packages

python=$(find_python) || die "Python 3.11 or newer with its venv module is needed. Set PYTHON=/path/to/python3 to name one."

# One set-up at a time: `make demo` and `make test` may be started together.
if command -v flock >/dev/null 2>&1; then
  exec 9>.setup.lock
  flock 9
fi
if finished; then exit 0; fi

# A folder that was moved, or whose Python is gone, is made anew.
if [ -d .venv ]; then
  made_at=$(cat .venv/.stamp-place 2>/dev/null || true)
  if ! .venv/bin/python -c 'import pip' >/dev/null 2>&1 || { [ -n "$made_at" ] && [ "$made_at" != "$root" ]; }; then rm -rf .venv; fi
fi
if [ ! -d .venv ]; then
  say "making .venv with $("$python" --version)"
  "$python" -m venv .venv
fi
printf '%s\n' "$root" >.venv/.stamp-place

# pip puts the installer there; where that cannot be had, pip does the rest itself, only slower.
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
if [ ! -x .venv/bin/uv ]; then
  .venv/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements/installer.txt </dev/null ||
    say "uv cannot be installed; going on with pip"
fi

say "installing the Python packages of requirements/$level.txt"
installed=no
if [ -x .venv/bin/uv ]; then
  # The system's certificates: sites often have an authority of their own.
  export VIRTUAL_ENV=$root/.venv UV_NO_PROGRESS=1 UV_SYSTEM_CERTS=true
  if .venv/bin/uv pip install --quiet --require-hashes --only-binary :all: -r "requirements/$level.txt" </dev/null; then
    installed=yes
  else
    say "uv could not do it; going on with pip"
  fi
fi
if [ "$installed" = no ]; then
  .venv/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r "requirements/$level.txt" </dev/null ||
    die "the Python packages cannot be fetched. Is the package index reachable from here?"
fi

# The checkout itself: no download, no isolation, its build tools are in the lock.
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable . </dev/null
fingerprint "$level" >".venv/.stamp-$level"
say "ready"
