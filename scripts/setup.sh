#!/usr/bin/env bash
# Installs what omma's build, demo and tests need and is not there yet, and says what it installs.
#
#   scripts/setup.sh build      compiler, cmake and nasm, for the JPEG decoder (Debian packages)
#   scripts/setup.sh test       cargo-nextest, the test runner, redis-server (Debian package), and in the user's cache
#                               folder a Valkey, a Python with numpy, redis and tritonclient, for the tests of models and clients
#                               in Python, and a tritonserver
#   scripts/setup.sh deny       cargo-deny, which checks the dependencies' licences and sources
#   scripts/setup.sh fuzz       cargo-fuzz, and the C++ compiler that its runtime is built with
#   scripts/setup.sh runtimes   ONNX Runtime and OpenVINO, out of their PyPI wheels, into the user's cache folder
#   scripts/setup.sh perf       perf_analyzer, out of a PyPI wheel, and the Triton that omma is measured against
#
# Idempotent: with everything there it looks and returns, in well under a second.
# Nothing is put anywhere but Debian's package database, ~/.cargo/bin and the cache folder.
set -euo pipefail

ONNXRUNTIME_VERSION=1.32.0
OPENVINO_VERSION=2026.4.1
PERF_ANALYZER_VERSION=2.51.0
# What the tests' Python holds; numpy is what models in Python need, the others are clients that omma is tested with.
PYTHON_PACKAGES=("numpy==2.3.5" "redis==8.1.0" "tritonclient[grpc,http]==2.73.0")
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/omma/runtimes"

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}

# Installs Debian packages. An update of the package lists is tried only when the lists don't know a package.
packages() {
  local sudo=()
  command -v apt-get >/dev/null || die "please install: $* (this machine has no apt-get, so it can't be done for you)"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "please install as root: apt-get install $*"
    sudo=(sudo)
  fi
  say "installing Debian packages: $*"
  export DEBIAN_FRONTEND=noninteractive
  "${sudo[@]}" apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1 && return
  "${sudo[@]}" apt-get update -qq >/dev/null || say "apt-get update failed, trying with the lists as they are"
  "${sudo[@]}" apt-get install -y --no-install-recommends "$@" >/dev/null || die "apt-get install $* failed"
}

build() {
  command -v cargo >/dev/null || die "please install Rust 1.95 or newer first: https://rustup.rs"
  local missing=()
  command -v cc >/dev/null || missing+=(gcc libc6-dev)
  command -v cmake >/dev/null || missing+=(cmake)
  command -v make >/dev/null || missing+=(make)
  # Only the x86 decoder is written for nasm; elsewhere libjpeg-turbo uses the compiler.
  if [ "$(uname -m)" = x86_64 ]; then
    command -v nasm >/dev/null || missing+=(nasm)
  fi
  if [ ${#missing[@]} -gt 0 ]; then packages "${missing[@]}"; fi
}

# tool NAME PURPOSE: a cargo subcommand, built from its source.
tool() {
  if command -v "$1" >/dev/null || [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/$1" ]; then return; fi
  say "building $1, $2 (some minutes, once)"
  cargo install "$1" --locked --quiet || die "cargo install $1 failed"
}

# wheel NAME VERSION PLATFORM SHA256 MARKER MEMBER...: unpacks the wheel's members into CACHE/NAME-VERSION.
#
# The wheel of one fixed Python is asked for whatever Python is installed: the libraries don't depend on it, and so
# the checksum can be a constant. MARKER is the file that tells that an earlier run was complete.
wheel() (
  name=$1 version=$2 platform=$3 sum=$4 marker=$5 folder="$CACHE/$1-$2"
  shift 5
  [ -e "$folder/$marker" ] && exit
  command -v python3 >/dev/null || packages python3 python3-pip
  python3 -m pip --version >/dev/null 2>&1 || packages python3-pip
  say "downloading $name $version from PyPI into $folder"
  # A function that is called with `||` gets no help from `set -e`: every step says itself what its failure means.
  mkdir -p "$CACHE" && work=$(mktemp -d "$CACHE/.unpack-XXXXXX") || die "cannot write to $CACHE"
  trap 'rm -rf "$work"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --platform "$platform" --implementation cp --python-version 3.11 --abi cp311 \
    --dest "$work" "$name==$version" || die "$name $version could not be downloaded"
  echo "$sum  $(echo "$work"/*.whl)" | sha256sum --check --status ||
    die "the downloaded $name $version has another checksum than expected ($sum): not installed"
  python3 - "$work" "$@" <<'PYTHON' || die "$name $version could not be unpacked into $work"
import pathlib, sys, zipfile
folder, *members = sys.argv[1:]
wheel = next(pathlib.Path(folder).glob("*.whl"))
out = pathlib.Path(folder, "out")
out.mkdir()
with zipfile.ZipFile(wheel) as archive:
    for member in members:
        out.joinpath(pathlib.Path(member).name).write_bytes(archive.read(member))
PYTHON
  # Into its place in one step: a reader never sees half a runtime, and two setups at once don't disturb each other.
  mv -T "$work/out" "$folder" 2>/dev/null || [ -e "$folder/$marker" ] || die "could not move $name into $folder"
)

runtimes() {
  local failed=0
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64)
      wheel onnxruntime "$ONNXRUNTIME_VERSION" manylinux_2_28_x86_64 \
        5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d \
        "libonnxruntime.so.$ONNXRUNTIME_VERSION" \
        "onnxruntime/capi/libonnxruntime.so.$ONNXRUNTIME_VERSION" onnxruntime/LICENSE || failed=1
      wheel openvino "$OPENVINO_VERSION" manylinux_2_28_x86_64 \
        2d22b1da03f7caf74df30e9f6417d0ab2f637e4a38e08e1dcd294d2c37407aaf \
        libopenvino_c.so.2641 \
        openvino/libs/libopenvino_c.so.2641 openvino/libs/libopenvino.so.2641 \
        openvino/libs/libopenvino_intel_cpu_plugin.so openvino/libs/libopenvino_onnx_frontend.so.2641 \
        openvino/libs/libtbb.so.12 openvino/libs/libtbbmalloc.so.2 \
        openvino/libs/libtbbbind_2_5.so.3 openvino/libs/libhwloc.so.15 || failed=1
      ;;
    Linux-aarch64)
      wheel onnxruntime "$ONNXRUNTIME_VERSION" manylinux_2_28_aarch64 \
        2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c \
        "libonnxruntime.so.$ONNXRUNTIME_VERSION" \
        "onnxruntime/capi/libonnxruntime.so.$ONNXRUNTIME_VERSION" onnxruntime/LICENSE || failed=1
      ;;
    *)
      say "no native runtimes are set up for $(uname -s) on $(uname -m); omma uses its built-in one"
      ;;
  esac
  return $failed
}

# A virtual environment of its own: the machine's Python and its packages stay as they are.
python_environment() {
  local folder="${XDG_CACHE_HOME:-$HOME/.cache}/omma/python" marker
  marker="$folder/complete-$(printf '%s\n' "${PYTHON_PACKAGES[@]}" | cksum | cut -d ' ' -f 1)"
  if [ -e "$marker" ] && [ -x "$folder/bin/python" ]; then return; fi
  command -v python3 >/dev/null || packages python3 python3-venv
  python3 -c 'import ensurepip, venv' 2>/dev/null || packages python3-venv
  say "making a Python with ${PYTHON_PACKAGES[*]} in $folder"
  python3 -m venv "$folder" || die "no virtual environment could be made in $folder"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: "${PYTHON_PACKAGES[@]}" ||
    die "${PYTHON_PACKAGES[*]} could not be installed into $folder (they need Python 3.11 or newer)"
  touch "$marker"
}

triton() {
  "$(dirname "$0")/triton.sh" installed && return
  command -v python3 >/dev/null || packages python3 python3-venv
  python3 -c 'import ensurepip, venv' 2>/dev/null || packages python3-venv
  "$(dirname "$0")/triton.sh" install || die "tritonserver could not be installed"
}

# The binary is linked with two libraries that lie in Triton's wheel, under names of their own there.
perf_analyzer() {
  local folder="$CACHE/perf_analyzer-$PERF_ANALYZER_VERSION" library found
  [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || die "there is no perf_analyzer for $(uname -s) on $(uname -m)"
  "$(dirname "$0")/triton.sh" install
  wheel tritonclient "$PERF_ANALYZER_VERSION" manylinux1_x86_64 \
    c485bb0123bdf310f90bc8b03d3489b28df2ffed55b30c7eee0b795b48113d52 perf_analyzer \
    "tritonclient-$PERF_ANALYZER_VERSION.data/data/bin/perf_analyzer" \
    "tritonclient-$PERF_ANALYZER_VERSION.data/data/LICENSE.txt"
  [ -e "$folder/complete" ] && return
  mkdir -p "$folder"
  for library in libb64.so.0d libcudart.so.12; do
    found=$(find "$CACHE/../" -path '*nvidia_pytriton.libs/*' -name "${library%%.*}*" | head -n 1)
    [ -n "$found" ] || die "$library is not in Triton's wheel"
    ln -sfn "$(realpath "$found")" "$folder/$library"
  done
  ln -sfn "$CACHE/tritonclient-$PERF_ANALYZER_VERSION/perf_analyzer" "$folder/perf_analyzer"
  chmod +x "$CACHE/tritonclient-$PERF_ANALYZER_VERSION/perf_analyzer"
  touch "$folder/complete"
}

[ $# -gt 0 ] || die "expected one or more of: build, test, deny, fuzz, runtimes, perf"
for part in "$@"; do
  case "$part" in
    build) build ;;
    test)
      tool cargo-nextest "the test runner"
      command -v redis-server >/dev/null || packages redis-server
      "$(dirname "$0")/valkey.sh" install || say "the tests run without a Valkey"
      # A producer of frame handles, models and clients in Python and the package in python/ are tested with it.
      python_environment
      # Tests of models on servers; there is one for x86-64 only.
      [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ] || triton
      ;;
    deny) tool cargo-deny "which checks the dependencies' licences and sources" ;;
    fuzz)
      command -v c++ >/dev/null || packages g++
      tool cargo-fuzz "the fuzzers' driver"
      ;;
    runtimes) runtimes || die "without native runtimes omma runs on its built-in one (rten), at about half the speed" ;;
    perf) perf_analyzer ;;
    *) die "unknown part '$part', expected build, test, deny, fuzz, runtimes or perf" ;;
  esac
done
