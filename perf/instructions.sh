#!/usr/bin/env bash
# Counts the instructions that packets and look-ups take, under valgrind: that needs neither huge pages nor
# a quiet machine nor hardware counters.
#
#     perf/instructions.sh [SESSIONS]
#
# Datagrams of 64 bytes of established sessions (1,000 unless told) by stages, then the worker and l3fwd
# with the same capture, then look-ups. `scripts/setup.sh --test` installs what it needs.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/../scripts/lib.sh"

SESSIONS=${1-1000}
PACKETS=200000
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Runs the benchmark and its peers under valgrind; profiles go to $folder/NAME.PROCESS. The measured parts
# have profiles of their own, which end in numbers.
profile() {
    local name=$1 measure
    local options=(--quiet --trace-children=yes --trace-children-skip='*cc,*pkg-config'
        --tool=callgrind --callgrind-out-file="$folder/$name.%p" --dump-before=rte_eth_stats_get)
    for measure in gateway::Gateway wire::Wire; do
        measure=tidegate_bench::forward::$measure::measure
        options+=("--dump-before=$measure" "--dump-after=$measure")
    done
    shift
    # l3fwd for the processor that ours is built for, all of whose instructions valgrind knows.
    CFLAGS=-march=x86-64-v3 valgrind "${options[@]}" "$RELEASE/tidegate-bench" "$@" --no-huge --rounds 1 \
        >"$folder/$name.log" 2>&1 || { cat "$folder/$name.log" >&2; fail "$name could not be measured"; }
}

# Profiles with a line like PATTERN, in order.
profiles() { grep -l "$2" "$folder/$1".*.* | sort -V; }

# All instructions in profiles.
total() { awk '/^totals:/ { sum += $2 } END { print sum }' "$@"; }

# How often a function was called in profiles, and the instructions of it and all that it called.
calls() {
    local wanted=$1
    shift
    awk -v wanted="$wanted" '
        FNR == 1 { delete names }
        /^c?fn=/ {
            id = name = substr($0, index($0, "=") + 1)
            sub(/\).*/, ")", id); sub(/^\([0-9]+\) ?/, "", name)
            if (name != "") names[id] = name
            callee = names[id]
        }
        /^calls=/ {
            split($1, parts, "="); getline
            if (callee == wanted) { calls += parts[2]; sum += $NF }
        }
        END { print calls + 0, sum + 0 }' "$@"
}

row() { awk -v what="$1" -v sum="$2" -v of="$3" 'BEGIN { printf "%-40s %6.0f\n", what, sum / of }'; }

cargo_ build --quiet --release -p tidegate-bench

say "instructions of a datagram by stages, $SESSIONS sessions"
profile stages forward --only stages --sessions "$SESSIONS" --packets $PACKETS
mapfile -t measured < <(profiles stages 'Trigger: --dump-after' | tail -n 5)
row "source, stamp, sink" "$(total "${measured[0]}")" $PACKETS
row "and parse" "$(total "${measured[1]}")" $PACKETS
row "and look up, 64 at once" "$(total "${measured[2]}")" $PACKETS
row "the whole worker, no NAT" "$(total "${measured[3]}")" $PACKETS
row "the whole worker, NAT" "$(total "${measured[4]}")" $PACKETS

say "instructions of a datagram from a capture, $SESSIONS flows"
profile routed forward --only l3fwd --sessions "$SESSIONS" --packets $PACKETS
mapfile -t measured < <(profiles routed 'Trigger: --dump-after')
# Before each gateway's figure it warms up; the fifth is the one beside source and sink.
row "source, sink" "$(total "${measured[5]}")" $PACKETS
row "the whole worker, no NAT" "$(total "${measured[1]}")" $PACKETS
row "the whole worker, NAT" "$(total "${measured[3]}")" $PACKETS
mapfile -t measured < <(profiles routed 'cmd: .*/l3fwd-metered .*--lookup=em' | tail -n +2)
read -r bursts _ < <(calls l3fwd_em_process_packets "${measured[@]}")
row "l3fwd, exact match" "$(total "${measured[@]}")" $((bursts * 32))

say "instructions of a key that is looked up, $SESSIONS sessions"
for burst in 32 64; do
    profile table table --sessions "$SESSIONS" --bursts $burst --block 5
    if [ $burst = 32 ]; then
        read -r bursts sum < <(calls 'session::shard::burst::<impl session::shard::Shard>::lookup_burst' "$folder"/table.*)
        row "ours, $burst at once" "$sum" $((bursts * burst))
    fi
    read -r bursts sum < <(calls rte_hash_lookup_bulk_data "$folder"/table.*)
    row "rte_hash, $burst at once" "$sum" $((bursts * burst))
    rm "$folder"/table.*
done
