# SPDX-License-Identifier: Apache-2.0
"""The embedded image `host`, made of the machine's own userland: finding it and knowing it stale.

It is a small skeleton tree below `Paths.host_image` with copies of the public part of /etc, and
/usr bound into it read-only. On the way to a container, so nothing cold is imported unless the
skeleton has to be made (`images.userland`). Below `Paths.host_image` this module owns the names:

    current -> <key>            the skeleton in use, swapped by rename
    <key>/record.json, tree/    one skeleton; the key is the beginning of its image id
"""

from __future__ import annotations

import os

from rootless.errors import Invalid
from rootless.oci import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.paths import Paths

# Directories of programs and libraries: a link is copied, a directory is bound read-only.
USERLAND = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store",
)  # fmt: skip

# What of /etc is public, wanted by programs in /usr, and says nothing about this machine. No
# secrets (shadow, ssh, sudoers, krb5), no names (hostname, hosts, machine-id, resolv.conf: those
# are made for each container), nothing that starts services.
PUBLIC = frozenset(
    [
        "DIR_COLORS",
        "R",
        "X11",
        "alternatives",
        "bash.bashrc",
        "bash_completion",
        "bash_completion.d",
        "bashrc",
        "bindresvport.blacklist",
        "ca-certificates",
        "ca-certificates.conf",
        "crypto-policies",
        "csh.cshrc",
        "csh.login",
        "debian_version",
        "emacs",
        "ethertypes",
        "fonts",
        "gai.conf",
        "gnutls",
        "group",
        "groff",
        "host.conf",
        "inputrc",
        "java",
        "javarc",
        "ld.so.cache",
        "ld.so.conf",
        "ld.so.conf.d",
        "libaudit.conf",
        "locale.alias",
        "locale.conf",
        "locale.gen",
        "localtime",
        "login.defs",
        "magic",
        "magic.mime",
        "mailcap",
        "manpath.config",
        "maven",
        "mime.types",
        "nanorc",
        "netconfig",
        "networks",
        "nsswitch.conf",
        "os-release",
        "passwd",
        "perl",
        "profile",
        "profile.d",
        "protocols",
        "rpc",
        "screenrc",
        "services",
        "sgml",
        "shells",
        "skel",
        "terminfo",
        "timezone",
        "tmux.conf",
        "vim",
        "vimrc",
        "wgetrc",
        "xattr.conf",
        "xdg",
        "xml",
        "zsh",
    ]
)
PUBLIC_PREFIXES = ("python3", "java-", "ImageMagick", "ld-musl-")
PUBLIC_PATHS = (
    "default/locale",
    "pki/ca-trust/extracted",
    "pki/java",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
)


def record(paths: Paths) -> dict[str, Any]:
    """The image record of `host` (see `images.records`), of a skeleton made now if need be.

    Besides the usual keys it has "host": true, "lower": [the skeleton's tree] and "mounts": OCI
    mounts to add. Raises NoSpace and OSError when the skeleton cannot be made.
    """
    found = current(paths)
    seen = fingerprint()
    if found is not None and found["fingerprint"] == seen:
        return found
    from rootless.images import userland

    userland.build(paths, seen)
    made = current(paths)
    assert made is not None
    return made


def current(paths: Paths) -> dict[str, Any] | None:
    """The record of the skeleton as it is, stale or not; None when none was ever made."""
    try:
        found: dict[str, Any] = document.load(paths.host_image + "/current/record.json")
        found["lower"] = [f"{paths.host_image}/{key(found['id'])}/tree"]
    except (OSError, Invalid, TypeError, KeyError, AttributeError):
        return None  # missing or damaged: it is made again when it is wanted
    return found if os.path.isdir(found["lower"][0]) and "fingerprint" in found else None


def key(image_id: str) -> str:
    """The name of the directory of the skeleton with that image id."""
    return image_id.removeprefix("sha256:")[:16]


def public_paths() -> list[str]:
    """The paths below /etc that are copied, as far as there are such; directories with their content."""
    names = [n for n in os.listdir("/etc") if n in PUBLIC or n.startswith(PUBLIC_PREFIXES)]
    return sorted(names) + [path for path in PUBLIC_PATHS if os.path.lexists("/etc/" + path)]


def fingerprint() -> str:
    """A text that changes when an upgrade or an administrator changed what the skeleton is made of.

    Files are replaced by rename, so the time of a directory tells of its files.
    """
    seen = []
    for path in (*USERLAND, *("/etc/" + name for name in public_paths())):
        try:
            found = os.lstat(path)
        except OSError:
            continue
        seen.append(f"{path}={found.st_ino:x}.{found.st_size:x}.{found.st_mtime_ns:x}")
    return ":".join(seen)
