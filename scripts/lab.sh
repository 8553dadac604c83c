#!/usr/bin/env bash
# A cluster, a client, a server and a switch in network namespaces on this machine:
#
#     scripts/lab.sh up [--units N] [--schedule S]    build it and start the units
#     scripts/lab.sh status                           show the units
#     scripts/lab.sh exec HOST COMMAND...             run a command on client, server, switch, u1, ...
#     scripts/lab.sh kill UNIT                        end a unit with SIGKILL
#     scripts/lab.sh start UNIT                       start it again
#     scripts/lab.sh link UNIT lan|wan|sync up|down   plug or pull a cable
#     scripts/lab.sh cut UNIT lan|wan|sync none|from|to|both
#                                                     drop frames, with the carrier left up
#     scripts/lab.sh failover --fault kill|link|silent|asleep|planned [--runs N] [--sessions N] [--json]
#                                                     measure failovers, in a lab of its own
#     scripts/lab.sh failover --peer keepalived [--runs N]
#                                                     the same beside keepalived and conntrackd
#     scripts/lab.sh faults [--seed S] [--faults N] [--units N] [--plan]
#                                                     break units at random and follow every connection
#     scripts/lab.sh join [--runs N] [--sessions N] [--json]
#                                                     measure how soon a unit that starts holds everything
#     scripts/lab.sh goals [--runs N] [--only ROW,...] [--output FILE]
#                                                     measure all that a cluster must reach, and judge it
#     scripts/lab.sh down                             remove everything
#
# What needs root is run through sudo. `scripts/lab.sh help` tells all options.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

lab=$RELEASE/tidegate-lab

case "${1-}" in
'' | -h | --help) usage; exit ;;
failover)
    case " $* " in *" --peer"*) scripts/setup.sh --test >&2 ;; esac
    build_programs >&2
    ;;
goals)
    scripts/setup.sh --test >&2
    build_programs >&2
    cargo_ build --release -p tidegate-bench >&2
    ;;
up | join | faults) build_programs >&2 ;;
*) [ -x "$lab" ] || build_programs >&2 ;;
esac

case "$1" in
failover | join | faults | goals) ;;
*) as_root "$lab" "$@"; exit ;;
esac
# An experiment that is interrupted leaves no lab behind.
prefix=tgf$$
trap 'as_root "$lab" down --prefix $prefix; as_root "$lab" down --prefix ${prefix}k' EXIT
trap 'exit 130' INT TERM
as_root "$lab" "$@" --prefix "$prefix"
