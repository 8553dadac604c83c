#!/usr/bin/env bash
# Gives a network card to DPDK:
#
#     scripts/bind-nic.sh INTERFACE | PCI-ADDRESS     bind it to vfio-pci
#     scripts/bind-nic.sh --undo PCI-ADDRESS          give it back to the kernel, unless it is there
#
# The card leaves the kernel: its interface is gone until it is given back. The one that carries the
# default route is refused, and so is one that is up with an address, unless --force is given first.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

# The PCI address of an interface, or the address itself if that is what was given.
find_address() {
    local name=$1 path
    if is_pci "$name"; then
        echo "$name"
    elif is_pci "0000:$name"; then
        echo "0000:$name"
    elif [ -e "/sys/class/net/$name/device" ]; then
        # A virtio interface hangs below its PCI device.
        path=$(readlink -f "/sys/class/net/$name/device")
        while [ "$path" != / ] && ! is_pci "$(basename "$path")"; do path=$(dirname "$path"); done
        [ "$path" != / ] || fail "$name is no PCI device: DPDK cannot drive it by itself"
        basename "$path"
    elif [ -e "/sys/class/net/$name" ]; then
        fail "$name is a virtual interface: use it as \"af_packet:$name\" or \"af_xdp:$name\" instead"
    else
        fail "there is no interface or PCI device \"$name\"; there are: $(cd /sys/class/net && echo *)"
    fi
}

is_pci() { [ -e "/sys/bus/pci/devices/$1" ]; }

# The kernel's interfaces of a PCI device: its own, or those of the virtio device below it.
interfaces_of() {
    local path
    for path in "/sys/bus/pci/devices/$1"/net/* "/sys/bus/pci/devices/$1"/*/net/*; do
        [ ! -e "$path" ] || basename "$path"
    done
}

# Refuses what would cut this machine off.
check_unused() {
    local interface routes addresses
    routes=$(ip -4 route show default; ip -6 route show default)
    for interface in $(interfaces_of "$1"); do
        if [[ " ${routes//$'\n'/ } " == *" dev $interface "* ]]; then
            fail "$interface carries the default route: without it this machine could not be reached"
        fi
        addresses=$(ip -o address show dev "$interface" scope global)
        if [ -z "$force" ] && [ -n "$addresses" ]; then
            fail "$interface has an address and may be in use; --force binds it all the same"
        fi
    done
}

check_iommu() {
    as_root modprobe vfio-pci || fail "this kernel has no vfio-pci"
    if [ -z "$(ls -A "/sys/class/iommu" 2>/dev/null)" ]; then
        fail "there is no IOMMU: switch it on in the firmware and boot with intel_iommu=on or amd_iommu=on
(or, at your own risk, set /sys/module/vfio/parameters/enable_unsafe_noiommu_mode to 1)"
    fi
}

driver_of() { basename "$(readlink "/sys/bus/pci/devices/$1/driver" 2>/dev/null)" 2>/dev/null || true; }

# Writes a word to a file of the kernel.
# shellcheck disable=SC2016 # the inner shell expands
write() { as_root sh -c 'printf "%s" "$1" >"$2"' sh "$1" "$2"; }

# Rebinds a device. An empty driver means whichever one the kernel chooses.
rebind() {
    local address=$1 driver=$2 device=/sys/bus/pci/devices/$1
    [ ! -e "$device/driver" ] || write "$address" "$device/driver/unbind"
    write "${driver:-$'\n'}" "$device/driver_override"
    write "$address" "/sys/bus/pci/drivers_probe"
}

force='' undo=''
while [ $# -gt 0 ]; do
    case $1 in
    --force) force=1 ;;
    --undo) undo=1 ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
    *) break ;;
    esac
    shift
done
[ $# -eq 1 ] || { usage >&2; exit 2; }

address=$(find_address "$1")
driver=$(driver_of "$address")
if [ -n "$undo" ]; then
    # Taking it from the kernel only to give it back would cut off whoever comes in by it.
    case $driver in
    vfio-pci | '') ;;
    *) say "nothing to undo: $address has the driver $driver, interface $(interfaces_of "$address")"; exit ;;
    esac
    rebind "$address" ''
    say "$address is the kernel's again: driver $(driver_of "$address"), interface $(interfaces_of "$address")"
    exit
fi
[ "$driver" != vfio-pci ] || { say "$address is bound to vfio-pci already"; exit; }
check_unused "$address"
check_iommu
rebind "$address" vfio-pci
[ "$(driver_of "$address")" = vfio-pci ] || fail "the kernel did not bind $address: \`dmesg | tail\` tells why"
say "$address is bound to vfio-pci: use it as device = \"pci:$address\""
say "to undo: scripts/bind-nic.sh --undo $address"
