#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The console commands where no C compiler was at hand: what launcher.c does, a few milliseconds slower.
# In an editable install `package` is filled in by setup.py.
package=''

self=$(readlink -f -- "$0")
folder=${self%/*}
name=${self##*/}
flags='-I'
python="$folder/python3"
if [ -z "$package" ]; then
    flags='-I -S'
    for home in "${folder%/*}"/lib/python3.*/site-packages "${folder%/*}"/lib/python3.*/dist-packages \
        "${folder%/*}"/lib64/python3.*/site-packages; do
        [ -d "$home/rootless" ] && package="$home/rootless"
    done
    version=${package%/*-packages/rootless}
    [ -x "$python" ] || python=$(command -v "${version##*/}" || true)
fi
[ -x "$python" ] || python=$(command -v python3 || true)
if [ -z "$package" ]; then
    echo "$name: cannot find the Python package \`rootless\` in ${folder%/*}/lib/python3.*/site-packages" >&2
    echo "hint: install it again: python3 -m pip install --force-reinstall rootless" >&2
    exit 127
fi
if [ -z "$python" ]; then
    echo "$name: cannot find python3 in $folder or on PATH" >&2
    echo "hint: install Python 3.11 or newer" >&2
    exit 127
fi
[ "$name" = rootless-oci ] && set -- @rootless-oci "$@"
# shellcheck disable=SC2086 # the flags are two words
exec "$python" $flags "$package/__main__.py" "$@"
