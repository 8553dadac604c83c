#!/usr/bin/env bash
# Runs every test, from formatting to clusters in network namespaces:
#
#     scripts/test.sh [STEP...]
#
# STEP is one of format, lints, units, protocol, models, memory, fuzz and namespaces; without any, all
# are run. A step that fails does not stop the others. The exit code is 0 only if nothing failed.
# FUZZ_SECONDS (60) is the time for each fuzz target.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

# What builds the tests that need root.
needing_root=tidegate-lab/namespaces,tidegated/namespaces,tidegate-bench/namespaces

# Formatting of all crates.
step_format() { cargo_ fmt --all --check; }

# Lints of everything, tests and benchmarks included, where a warning is an error.
step_lints() { cargo_ clippy --workspace --all-targets --features "$needing_root" -- -D warnings; }

# Unit and property tests of all crates, but for the protocol's long ones and those that need root.
step_units() { cargo_ test --workspace --exclude cluster --no-fail-fast; }

# The cluster protocol, with the fixed seeds of the simulator.
step_protocol() { cargo_ test --release -p cluster; }

# The session table's one writer and many readers in every interleaving that loom finds.
step_models() {
    local out
    out=$(mktemp)
    # As a configuration, since a variable would not reach cargo under another user; of a target, since
    # one of the build gives way to that in .cargo/config.toml.
    cargo_ test --release -p session --target-dir "$CARGO_TARGET_DIR/loom" \
        --config "target.'cfg(all())'.rustflags=['--cfg', 'loom']" loom | tee "$out"
    # Without the flag there are no models, and nothing fails.
    if ! grep -q 'loom_models.*ok$' "$out"; then rm "$out"; echo "no model ran" >&2; return 1; fi
    rm "$out"
}

# The session table, which holds all unsafe code outside the binding, under valgrind.
step_memory() {
    local binary
    binary=$(test_binaries -p session --test stress)
    valgrind --quiet --error-exitcode=1 --fair-sched=yes --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite "$binary" --test-threads=1
}

# Each parser and decoder of hostile bytes, two at a time.
step_fuzz() {
    local seconds=${FUZZ_SECONDS:-60} targets half pids=() pid status=0
    # Builds them all, so that the two below find them built.
    scripts/fuzz.sh 1
    mapfile -t targets < <(find fuzz/fuzz_targets -maxdepth 1 -name '*.rs' -printf '%f\n' | sed 's/\.rs$//' | sort)
    half=$(((${#targets[@]} + 1) / 2))
    scripts/fuzz.sh "$seconds" "${targets[@]:0:half}" & pids+=($!)
    if [ "${#targets[@]}" -gt "$half" ]; then scripts/fuzz.sh "$seconds" "${targets[@]:half}" & pids+=($!); fi
    for pid in "${pids[@]}"; do wait "$pid" || status=1; done
    return $status
}

# The gateway on devices of the kernel, and clusters, clients and servers in network namespaces, one
# test at a time, as root.
step_namespaces() {
    local binary binaries status=0
    build_programs || return 1
    export TIDEGATE_PROGRAMS=$RELEASE
    # As part of the workspace, so that what the step `units` has built is not built anew.
    binaries=$(test_binaries --workspace --exclude cluster --features "$needing_root" \
        --test startup --test two_workers --test topology --test cluster --test gateways) || return 1
    for binary in $binaries; do as_root "$binary" --test-threads=1 || status=1; done
    return $status
}

# Builds tests and prints the paths of their programs; none is an error.
test_binaries() {
    local binaries
    binaries=$(cargo_ test --no-run --message-format=json "$@" |
        sed -n '/"kind":\["test"\]/s/.*"executable":"\([^"]*\)".*/\1/p') || return 1
    # Without any, no test would run, and none would fail.
    [ -n "$binaries" ] || { echo "no program was found among the tests of: $*" >&2; return 1; }
    echo "$binaries"
}

# Runs one step and remembers how it went.
run_step() {
    local step=$1 start=$SECONDS
    say "$step"
    # A subshell of its own keeps a step's `set -e`, which `if` would switch off.
    set +e
    (set -e; "step_$step") 2>&1 | tee -a "$log"
    local status=${PIPESTATUS[0]}
    set -e
    if [ "$status" -eq 0 ]; then
        say "$step: ${GREEN}passed${PLAIN}${BOLD} in $((SECONDS - start)) s"
    else
        say "$step: ${RED}FAILED${PLAIN}${BOLD} after $((SECONDS - start)) s"
        failed+=("$step")
    fi
}

all=(format lints units protocol models memory fuzz namespaces)
steps=("$@")
[ $# -gt 0 ] || steps=("${all[@]}")
for step in "${steps[@]}"; do
    case " ${all[*]} " in
    *" $step "*) ;;
    *) usage >&2; exit 2 ;;
    esac
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=()
scripts/setup.sh --test
for step in "${steps[@]}"; do run_step "$step"; done

# The test programs' own counts, and each step as one more test.
read -r passed wrong < <(awk '/^test result: /{ for (i = 2; i <= NF; i++) { if ($i == "passed;") p += $(i-1); if ($i == "failed;") f += $(i-1) } } END { print p + 0, f + 0 }' "$log")
passed=$((passed + ${#steps[@]} - ${#failed[@]}))
wrong=$((wrong + ${#failed[@]}))
[ ${#failed[@]} -eq 0 ] || printf 'steps that failed: %s\n' "${failed[*]}"
printf '%s passed, %s failed (%s s)\n' "$passed" "$wrong" "$SECONDS"
[ "$wrong" -eq 0 ]
