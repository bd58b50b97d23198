#!/usr/bin/env bash
# Make .venv and install the locked packages; almost free when nothing changed since the last time.
set -euo pipefail
cd "$(dirname "$0")/../.."

# Two of these at once in one checkout would tear down what the other builds.
exec 9<deploy/local/venv.sh
flock 9

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.11 python3.12 python3.13 python3.14; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: Python 3.11 or newer is needed and none was found; name one with PYTHON=/path/to/python" >&2
  return 1
}

# Debian and Ubuntu keep venv apart from the interpreter.
install_venv_module() {
  local package as_root=()
  package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
  if [ "$(id -u)" != 0 ]; then as_root=(sudo); [ -t 0 ] || as_root+=(-n); fi
  echo "installing $package"
  "${as_root[@]}" apt-get update -qq || true
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null || {
    echo "error: $1 cannot make virtual environments; install the package $package" >&2
    return 1
  }
}

pip_install() {
  .venv/bin/python -m pip install -qq --no-input --disable-pip-version-check "$@"
}

# A copied checkout or an upgraded interpreter leaves a .venv that no longer works: the first line names both.
home() {
  echo "$PWD $(.venv/bin/python -c 'import sys; print(sys.version.split()[0])' 2>/dev/null || true)"
}
wanted() {
  sha256sum <requirements-dev.lock
}

was_home='' was_wanted=''
[ ! -f .venv/.installed ] || { read -r was_home; read -r was_wanted; } <.venv/.installed || true
if [ "$was_home" != "$(home)" ]; then
  python=$(find_python)
  "$python" -c 'import ensurepip' 2>/dev/null || install_venv_module "$python"
  echo "making .venv with $("$python" --version)"
  "$python" -m venv --clear .venv
  was_wanted=''
fi
if [ "$was_wanted" != "$(wanted)" ]; then
  echo "installing $(grep -c '==' requirements-dev.lock) locked packages"
  pip_install --require-hashes -r requirements-dev.lock
fi
pip_install --no-deps --no-build-isolation -e .
printf '%s\n' "$(home)" "$(wanted)" >.venv/.installed
