#!/usr/bin/env bash
# Runs the fuzz targets (crates/fuzzing says what each holds), one after the other.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]   60 seconds each, all targets
#
# Builds with the stable toolchain: RUSTC_BOOTSTRAP=1 lets it take the flags that instrumented builds need. Installs
# cargo-fuzz if it is missing, and says so. What is found lies in fuzz/artifacts/TARGET, what was learned in
# fuzz/corpus/TARGET: neither is committed; a finding becomes a test beside the parser at fault.
# Exit code 1 if a target found something.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=60
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then
  seconds=$1
  shift
fi
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi
for target in "${targets[@]}"; do
  [ -e "fuzz/fuzz_targets/$target.rs" ] || {
    echo "fuzz: no target '$target', expected one of: $(cd fuzz/fuzz_targets && echo *.rs | sed 's/\.rs//g')" >&2
    exit 2
  }
done

scripts/setup.sh build fuzz
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
cargo run --quiet -p omma-fuzzing --example seeds -- fuzz/corpus
# One build for all of them. Without AddressSanitizer: what it would see beyond Rust's own checks is C that is built
# without it.
export RUSTC_BOOTSTRAP=1
cargo fuzz build --sanitizer none

failed=()
for target in "${targets[@]}"; do
  echo "fuzz: $target for $seconds s" >&2
  mkdir -p "fuzz/corpus/$target"
  cargo fuzz run --sanitizer none "$target" -- -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=2048 \
    -print_final_stats=1 -verbosity=0 || failed+=("$target")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "fuzz: found something in ${failed[*]}: see fuzz/artifacts" >&2
  exit 1
fi
echo "fuzz: ${#targets[@]} targets held for $seconds s each" >&2
