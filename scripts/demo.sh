#!/usr/bin/env bash
# A download through a DPDK gateway that goes on while the primary is killed, and again while the next
# primary loses its cable:
#
#     scripts/demo.sh
#
# Installs what is missing, builds, starts two units with a client, a server and a switch in network
# namespaces, tells what happens as it happens, and ends with a report. The exit code is 0 only if all
# of it worked. Nothing is left running.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

case "${1-}" in
'') ;;
-h | --help) usage; exit 0 ;;
*) usage >&2; exit 2 ;;
esac

scripts/setup.sh
build_programs

prefix=demo$$
clean_up() {
    as_root "$RELEASE/tidegate-lab" down --prefix "$prefix" || true
    as_root rm -rf "/var/tmp/tidegate-$prefix"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

if as_root "$RELEASE/tidegate-lab" demo --prefix "$prefix"; then
    say "${GREEN}the demonstration succeeded"
else
    fail "the demonstration failed"
fi
