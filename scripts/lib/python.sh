# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by each script, which has set $checkout: messages, finding Python, virtual environments.

SYSTEM_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
    say "$@"
    exit 1
}

# A Python that is new enough and can make virtual environments. As root the system's own comes
# first: one of root's home directory is of no use to the user we are going to run as.
find_python() {
    local candidates=(python3 python3.13 python3.12 python3.11 /usr/bin/python3) python
    [ "$(id -u)" != 0 ] || candidates=(/usr/bin/python3 "${candidates[@]}")
    for python in "${candidates[@]}"; do
        if "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
    die "no Python 3.11 or newer with venv: apt-get install python3 python3-venv"
}

# copy_tree DIRECTORY: the sources of the checkout, without what was built; virtual environments there stay.
copy_tree() {
    mkdir -p "$1"
    find "$1" -mindepth 1 -maxdepth 1 ! -name '.venv*' -exec rm -rf {} +
    tar -C "$checkout" --exclude-vcs --exclude='.venv*' --exclude='.*_cache' --exclude='*.egg-info' \
        --exclude=__pycache__ --exclude=./rootless/bin --exclude=./build -cf - . |
        tar -C "$1" --no-same-owner -xf -
}

# own_checkout SCRIPT ARGUMENTS...: goes on in a copy in the home directory if this one is not ours.
own_checkout() {
    local copy=${XDG_DATA_HOME:-$HOME/.local/share}/rootless-checkout script=${1##*/}
    shift
    [ ! -w "$checkout" ] || return 0
    say "cannot write to $checkout: working in the copy $copy"
    copy_tree "$copy"
    exec "$copy/scripts/$script" "$@"
}

# One number for the contents of files and directories of the checkout, without what was built.
fingerprint() {
    (cd "$checkout" && find "$@" \( -name '.git' -o -name '.venv*' -o -name '.*_cache' \
        -o -name __pycache__ -o -name '*.egg-info' -o -path ./build -o -path '*rootless/bin' \) -prune \
        -o -type f -print0 | LC_ALL=C sort -z | xargs -0 cksum | cksum)
}

# install_into ENVIRONMENT FINGERPRINT PIP-ARGUMENTS...: does nothing when the same was installed before.
install_into() {
    local environment=$1 stamp="$1/.installed" wanted=$2 python
    shift 2
    if [ -x "$environment/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    if ! "$environment/bin/python" -c 'import pip' 2>/dev/null; then
        python=$(find_python)
        say "making the virtual environment $environment with $python"
        "$python" -m venv --clear "$environment"
    fi
    say "installing rootless and the libraries it uses"
    (cd "$checkout" && "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
        --use-pep517 "$@")
    echo "$wanted" > "$stamp"
}

# install_rootless: as a user would have it, in $checkout/.venv; sets $environment.
install_rootless() {
    environment=$checkout/.venv
    rm -rf "$checkout/build"  # setuptools would pack again what is no longer in the sources
    install_into "$environment" "$(fingerprint pyproject.toml setup.py helpers rootless)" .
}

# The environment for tests and checks, with the checkout itself instead of a copy in it.
use_test_environment() {
    environment=$checkout/.venv-test
    install_into "$environment" "$(fingerprint pyproject.toml setup.py helpers)" --editable '.[dev]'
    PATH=$environment/bin:$PATH
    cd "$checkout"
}
