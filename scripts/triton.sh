#!/usr/bin/env bash
# A real tritonserver without container and GPU, for tests and measurements: out of the PyPI wheel of nvidia-pytriton,
# with the Python backend, in the user's cache folder.
#
#   scripts/triton.sh install                     installs it if it is not there (55 MB to download, some 400 MB on disk)
#   scripts/triton.sh installed                   succeeds if it is there
#   scripts/triton.sh run REPOSITORY [ARGUMENT]   becomes tritonserver on that model repository; ports by HTTP_PORT,
#                                                 GRPC_PORT, METRICS_PORT (8000, 8001, 8002), all on 127.0.0.1
#
# Nothing is put anywhere but the cache folder and, where libpython is missing, Debian's package database.
set -euo pipefail

PYTRITON=0.7.0 # tritonserver 2.51.0
NUMPY=1.26.4
ROOT="${XDG_CACHE_HOME:-$HOME/.cache}/omma/triton-$PYTRITON"

say() { printf 'triton: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}

# The backend's stub processes are linked with one Python's library; the wheel has stubs for these.
python() {
  local name
  for name in python3.11 python3.12 python3.10 python3.9 python3; do
    command -v "$name" >/dev/null || continue
    "$name" -c 'import sys, venv; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null || continue
    command -v "$name"
    return
  done
  die "expected a Python of version 3.9 to 3.12 with its module venv, found none: apt-get install python3-venv"
}

# Where libpythonX.Y.so.1.0 lies. It must be the interpreter's own patch release, so its own folder goes first.
library() {
  "$ROOT/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))'
}

version() {
  "$ROOT/venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

package() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1" >/dev/null
}

install() {
  [ -e "$ROOT/complete" ] && return
  [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || die "there is no wheel for $(uname -s) on $(uname -m)"
  mkdir -p "$ROOT"
  exec 9>"$ROOT/lock"
  flock 9
  [ -e "$ROOT/complete" ] && return
  say "installing tritonserver (nvidia-pytriton $PYTRITON) into $ROOT"
  rm -rf "$ROOT/venv" "$ROOT/backends"
  "$(python)" -m venv "$ROOT/venv" || die "cannot make a Python environment in $ROOT/venv"
  "$ROOT/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    "nvidia-pytriton==$PYTRITON" "numpy==$NUMPY" || die "nvidia-pytriton $PYTRITON could not be installed"
  local python server
  python=$(version)
  server="$ROOT/venv/lib/python$python/site-packages/pytriton/tritonserver"
  mkdir -p "$ROOT/backends/python"
  ln -s "$server/backends/python/libtriton_python.so" "$server/backends/python/triton_python_backend_utils.py" \
    "$server/python_backend_stubs/$python/triton_python_backend_stub" "$ROOT/backends/python/"
  if [ ! -e "$(library)/libpython$python.so.1.0" ] && ! ldconfig -p | grep -q "libpython$python.so.1.0"; then
    say "installing the Debian package libpython$python"
    package "libpython$python" || { apt-get update -qq >/dev/null && package "libpython$python"; } ||
      die "please install libpython$python: the Python backend is linked with it"
  fi
  ln -sfn "$server/bin/tritonserver" "$ROOT/tritonserver"
  touch "$ROOT/complete"
}

run() {
  install
  local folder
  folder=$(library)
  if [ -e "$folder/libpython$(version).so.1.0" ]; then
    export LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  fi
  # The embedded interpreter takes its modules from the first python3 in PATH.
  export PATH="$ROOT/venv/bin:$PATH" CUDA_VISIBLE_DEVICES="" OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
  local repository=$1
  shift
  exec "$(readlink -f "$ROOT/tritonserver")" --model-repository="$repository" \
    --backend-directory="$ROOT/backends" --disable-auto-complete-config --allow-gpu-metrics=false \
    --http-address=127.0.0.1 --http-port="${HTTP_PORT:-8000}" \
    --grpc-address=127.0.0.1 --grpc-port="${GRPC_PORT:-8001}" \
    --metrics-address=127.0.0.1 --metrics-port="${METRICS_PORT:-8002}" "$@"
}

case "${1:-}" in
  install) install ;;
  installed) [ -e "$ROOT/complete" ] ;;
  run)
    shift
    [ $# -gt 0 ] || die "expected: scripts/triton.sh run REPOSITORY"
    run "$@"
    ;;
  *) die "expected: scripts/triton.sh install, installed, or run REPOSITORY" ;;
esac
