# What the scripts share. Source it; it changes to the root of the repository.
# shellcheck shell=bash disable=SC2034 # what is set here is used there

SELF=$(readlink -f "$0")
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
ROOT=$PWD
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}
RELEASE=$CARGO_TARGET_DIR/release

if [ -t 1 ]; then BOLD=$'\e[1m' RED=$'\e[31m' GREEN=$'\e[32m' PLAIN=$'\e[0m'; else BOLD='' RED='' GREEN='' PLAIN=''; fi

# Prints the comment at the head of the script: how it is used.
usage() { sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$SELF"; }

# Says what happens next.
say() { printf '%s== %s%s\n' "$BOLD" "$*" "$PLAIN"; }

# Says why this cannot go on, and ends.
fail() {
    printf '%s%s: %s%s\n' "$RED" "$(basename "$0")" "$*" "$PLAIN" >&2
    exit 1
}

# Runs a command as root. The variables that say which programs to test come along.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo --preserve-env=TIDEGATE_PROGRAMS,CARGO_TARGET_DIR "$@"
    else
        fail "this needs root: there is no sudo here, so run it as root"
    fi
}

# Runs cargo as the owner of the repository where that is possible, so that no file of root's stays
# in their target directory.
cargo_() {
    local owner
    owner=$(stat -c %U "$ROOT")
    if [ "$(id -u)" -eq 0 ] && [ "$owner" != root ] && [ "$owner" != UNKNOWN ] && owner_has_cargo "$owner"; then
        local home
        home=$(home_of "$owner")
        runuser -u "$owner" -- env -u CARGO_HOME -u RUSTUP_HOME HOME="$home" PATH="$home/.cargo/bin:$PATH" cargo "$@"
    else
        cargo "$@"
    fi
}

owner_has_cargo() { [ -x "$(home_of "$1")/.cargo/bin/cargo" ] && [ -w "$(dirname "$CARGO_TARGET_DIR")" ]; }
home_of() { getent passwd "$1" | cut -d: -f6; }

# Builds the programs that a lab runs, and the lab's own.
build_programs() {
    say "building tidegated, tidegate and tidegate-lab"
    cargo_ build --release -p tidegated -p tidegate -p tidegate-lab
}

# rustup's default place, for shells that have not read its profile.
if ! command -v cargo >/dev/null && [ -x "${HOME-}/.cargo/bin/cargo" ]; then PATH=$HOME/.cargo/bin:$PATH; fi
