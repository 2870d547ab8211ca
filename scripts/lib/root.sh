# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced after python.sh: what only root does to a Debian machine so that an ordinary user can work:
# packages, that user with subordinate ids, device files, a copy of the checkout.

user=${ROOTLESS_USER:-rootless}

# install_packages NAME...: those that are missing, nothing otherwise.
install_packages() {
    local missing=() name
    if ! command -v apt-get >/dev/null; then
        say "not a Debian machine: install what is missing of: $*"
        return
    fi
    for name in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] ||
            missing+=("$name")
    done
    [ ${#missing[@]} != 0 ] || return 0
    say "installing packages: ${missing[*]}"
    apt-get update -qq </dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends \
        "${missing[@]}" </dev/null >/dev/null
}

# What running containers needs.
RUN_PACKAGES=(python3 python3-venv python3-dev gcc libc6-dev musl-tools
    uidmap fuse-overlayfs passt slirp4netns)
# What the tests and benchmarks compare with, take images from, or check the scripts by.
PEER_PACKAGES=(docker-registry skopeo podman buildah conmon crun bubblewrap busybox-static mmdebstrap shellcheck
    umoci)

make_user() {
    if ! id "$user" >/dev/null 2>&1; then
        say "making the unprivileged user $user"
        useradd --create-home --shell /bin/bash "$user"
    fi
    give_range /etc/subuid --add-subuids
    give_range /etc/subgid --add-subgids
}

# give_range FILE OPTION: 65536 subordinate ids that nobody else has, if the user has none.
give_range() {
    local first
    touch "$1"
    ! grep -q "^$user:" "$1" || return 0
    first=$(awk -F: '
        { from[NR] = $2; to[NR] = $2 + $3 }
        END {
            for (first = 100000; taken(first); first += 65536);
            print first
        }
        function taken(first,   i) {
            for (i = 1; i <= NR; i++) if (first < to[i] && from[i] < first + 65536) return 1
            return 0
        }' "$1")
    say "giving $user the subordinate ids $first-$((first + 65535)) in $1"
    usermod "$2" "$first-$((first + 65535))" "$user"
}

# open_device PATH MINOR: for everybody to use, as udev does it on a desktop.
open_device() {
    if [ ! -e "$1" ]; then
        mkdir -p "${1%/*}"
        mknod "$1" c 10 "$2" || say "cannot make $1: this machine may lack its driver"
    fi
    if [ -e "$1" ] && [ "$(stat -c %a "$1")" != 666 ]; then
        say "opening $1 for everybody"
        chmod 0666 "$1"
    fi
}

# A copy of the checkout that the user owns, at ~/rootless; sets $copy.
copy_checkout() {
    local wanted
    copy=$(getent passwd "$user" | cut -d: -f6)/rootless
    [ "$copy" != "$checkout" ] || return 0
    wanted=$(fingerprint .)
    [ "$(cat "$copy/.copied" 2>/dev/null)" != "$wanted" ] || return 0
    say "copying the checkout to $copy"
    copy_tree "$copy"
    echo "$wanted" > "$copy/.copied"
    chown -R "$user:" "$copy"
}

# as_user COMMAND...: as that user would have it after logging in, in their home directory.
as_user() {
    local uid home name kept=()
    uid=$(id -u "$user")
    home=$(getent passwd "$user" | cut -d: -f6)
    install -d -m 0700 -o "$user" -g "$(id -g "$user")" "/run/user/$uid"
    for name in $(compgen -e | grep -E '^(CI|TERM|LANG|LC_.*|PIP_.*|ROOTLESS_TEST_.*)$|_proxy$'); do
        kept+=("$name=${!name}")
    done
    (cd "$home" && setpriv --reuid "$uid" --regid "$(id -g "$user")" --init-groups --inh-caps=-all \
        env -i "HOME=$home" "USER=$user" "LOGNAME=$user" SHELL=/bin/bash "PATH=$SYSTEM_PATH" \
        "XDG_RUNTIME_DIR=/run/user/$uid" "${kept[@]}" "$@")
}

# in_view MOUNT-COMMANDS COMMAND...: with mounts that nobody else sees.
in_view() {
    local mounts=$1
    shift
    unshare --mount --propagation slave bash -euc "
        $(declare -p user SYSTEM_PATH)
        $(declare -f as_user)
        mount --make-rshared /  # as on a booted machine; podman warns otherwise
        $mounts
        \"\$@\"" "${0##*/}" "$@"
}

# The commands for in_view that show a cgroup v2 tree where this machine has another kind.
cgroup2_view() {
    [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || echo 'mount -t cgroup2 cgroup2 /sys/fs/cgroup'
}

# prepare_host PACKAGE...: everything of the above; sets $copy.
prepare_host() {
    install_packages "$@"
    make_user
    open_device /dev/fuse 229
    open_device /dev/net/tun 200
    copy_checkout
}
