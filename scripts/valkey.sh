#!/usr/bin/env bash
# A real valkey-server for the tests: Debian's package (on Debian 12 the one in its backports), unpacked into the user's
# cache folder. The system's packages and package lists stay as they are.
#
#   scripts/valkey.sh install   fetches it if it is not there
#   scripts/valkey.sh path      prints where it is; fails if it is not there
set -euo pipefail

ROOT="${XDG_CACHE_HOME:-$HOME/.cache}/omma/valkey"
PROGRAM="$ROOT/usr/bin/valkey-server"

say() { printf 'valkey: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}

# Debian's archive as this system is told to reach it: its address, and the release's name.
archive() {
  apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Component: main' \
    'Origin: Debian' 'Label: Debian' | grep -v -- '-[a-z]*$' | sort -u | head -n 1
}

install() {
  [ -x "$PROGRAM" ] && return
  if command -v valkey-server >/dev/null; then
    mkdir -p "$ROOT/usr/bin"
    ln -sfn "$(command -v valkey-server)" "$PROGRAM"
    return
  fi
  command -v apt-get >/dev/null || die "please install valkey-server (this machine has no apt-get)"
  local uri codename suite
  read -r uri codename < <(archive) || die "this is no Debian: please install valkey-server"
  # Debian has it since 13, and for 12 in the backports.
  suite=$codename
  [ "$codename" != bookworm ] || suite=bookworm-backports
  say "unpacking Debian's package valkey-server ($suite) into $ROOT"
  mkdir -p "$ROOT"
  work=$(mktemp -d "$ROOT/.unpack-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/lists/partial" "$work/archives/partial"
  printf 'deb %s %s main\n' "$uri" "$suite" >"$work/sources.list"
  cd "$work"
  local apart=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$work/lists" -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=" -o APT::Sandbox::User=root)
  apt-get "${apart[@]}" update -qq >/dev/null || die "the list of $suite could not be fetched"
  apt-get "${apart[@]}" download -qq valkey-server valkey-tools >/dev/null || die "valkey-server could not be fetched"
  for package in ./*.deb; do dpkg-deb --extract "$package" "$work/out"; done
  "$work/out/usr/bin/valkey-server" --version >/dev/null || die "valkey-server does not start here"
  mv "$work/out/usr" "$ROOT/usr"
}

case "${1:-}" in
  install) install ;;
  path) [ -x "$PROGRAM" ] && echo "$PROGRAM" ;;
  *) die "expected install or path" ;;
esac
