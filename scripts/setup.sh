#!/usr/bin/env bash
# Installs what Tidegate needs to be built, run in a lab, and tested on Debian 12:
#
#     scripts/setup.sh [--test]
#
# With --test also what only tests and measurements need: scripts/test.sh, `scripts/lab.sh goals` and
# tidegate-bench. Run it as often as you like: when everything is there it says so and changes nothing.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

# The oldest compiler that builds Tidegate.
RUST_MINOR=88

packages=(
    build-essential pkg-config libdpdk-dev dpdk     # to build and run tidegated
    iproute2 nftables ethtool procps util-linux     # to build a lab
    iputils-ping iputils-arping curl iperf3 tcpdump # to send traffic through it
    nginx-light                                     # to serve the demonstration's download
)
case "${1-}" in
'') ;;
--test)
    packages+=(
        valgrind python3
        etcd-server openssl                     # the witness of clusters under test, and its certificates
        dpdk-dev dpdk-doc                       # testpmd and l3fwd, which are measured beside
        keepalived conntrackd conntrack         # and the cluster that failovers are measured beside
    )
    ;;
-h | --help) usage; exit 0 ;;
*) usage >&2; exit 2 ;;
esac

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Debian starts a web server as soon as it is installed. Nobody asked for one on this machine, so for
# as long as packages are installed, no service may start.
install_quietly() {
    local policy=/usr/sbin/policy-rc.d
    # shellcheck disable=SC2016 # the inner shell expands
    local script='
        set -e
        if [ ! -e "$0" ]; then
            trap "rm -f $0" EXIT
            printf "#!/bin/sh\nexit 101\n" >"$0"
            chmod 755 "$0"
        fi
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null'
    as_root bash -c "$script" "$policy" "$@"
}

command -v dpkg-query >/dev/null || fail "this is not Debian: install ${packages[*]} by your own means"
missing=()
for package in "${packages[@]}"; do is_installed "$package" || missing+=("$package"); done
if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]}"
    install_quietly "${missing[@]}"
    # Nor is one to start with the machine.
    for service in nginx keepalived conntrackd etcd; do
        if [[ " ${missing[*]}" == *" $service"* ]]; then as_root update-rc.d "$service" disable; fi
    done
fi

command -v cargo >/dev/null ||
    fail "there is no cargo. Debian 12 has too old a Rust: install the current stable one with rustup, and run this again"
version=$(cargo --version | sed -n 's/^cargo 1\.\([0-9]*\)\..*/\1/p')
[ "${version:-0}" -ge "$RUST_MINOR" ] || fail "$(cargo --version) is too old: 1.$RUST_MINOR is needed; try \`rustup update stable\`"
say "everything is installed (DPDK $(pkg-config --modversion libdpdk), $(cargo --version | cut -d' ' -f1-2))"
