#!/usr/bin/env bash
# Fuzzes on the installed stable toolchain, without cargo-fuzz:
#
#     scripts/fuzz.sh [SECONDS-PER-TARGET] [TARGET…]
#
# Sixty seconds and all targets unless told otherwise. Each target starts from fuzz/seeds/TARGET (kept
# small, under version control) and from what earlier runs collected in fuzz/corpus/TARGET (not kept).
# An input that fails is left in fuzz/artifacts/TARGET: put it under a telling name into
# fuzz/seeds/TARGET (of `parse` the tests replay them too), and repair what it found.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0"; }

seconds=60
case "${1-}" in
-h | --help) usage; exit 0 ;;
'' | *[!0-9]*) ;;
*) seconds=$1; shift ;;
esac

mapfile -t known < <(find fuzz/fuzz_targets -maxdepth 1 -name '*.rs' -printf '%f\n' | sed 's/\.rs$//' | sort)
targets=("$@")
[ $# -gt 0 ] || targets=("${known[@]}")
for target in "${targets[@]}"; do
    [ -f "fuzz/fuzz_targets/$target.rs" ] && continue
    echo "fuzz: no target \"$target\"; there are: ${known[*]}" >&2
    exit 2
done

# What cargo-fuzz passes, without a sanitizer, which needs a nightly toolchain. With --target the flags
# do not reach build scripts and procedural macros.
flags=(
    --cfg=fuzzing
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Cdebug-assertions
    -Ccodegen-units=1
)
host=$(rustc -vV | sed -n 's/^host: //p')
out=${CARGO_TARGET_DIR:-fuzz/target}

echo "fuzz: building ${targets[*]}"
bins=()
for target in "${targets[@]}"; do bins+=(--bin "$target"); done
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}") \
    cargo build --quiet --release --manifest-path fuzz/Cargo.toml --target-dir "$out" --target "$host" "${bins[@]}"

failed=()
for target in "${targets[@]}"; do
    corpus=fuzz/corpus/$target artifacts=fuzz/artifacts/$target seeds=fuzz/seeds/$target
    mkdir -p "$corpus" "$artifacts"
    inputs=("$corpus")
    [ ! -d "$seeds" ] || inputs+=("$seeds")
    echo "fuzz: $target for $seconds s"
    if ! log=$("$out/$host/release/$target" -max_total_time="$seconds" -artifact_prefix="$artifacts/" \
        -print_final_stats=1 -timeout=10 -rss_limit_mb=1024 "${inputs[@]}" 2>&1); then
        failed+=("$target")
        tail -n 40 <<<"$log" >&2
        continue
    fi
    grep -E '^#[0-9]+[[:space:]]+DONE|^stat::(number_of_executed_units|average_exec_per_sec|new_units_added)' <<<"$log"
done

if [ ${#failed[@]} -gt 0 ]; then
    echo "fuzz: failed: ${failed[*]}; inputs in fuzz/artifacts" >&2
    exit 1
fi
echo "fuzz: ${#targets[@]} target(s) without a failure"
