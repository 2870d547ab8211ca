# SPDX-License-Identifier: Apache-2.0
"""`rootless-oci features`: features.md of the runtime specification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.linux import capability, namespaces
from rootless.oci import document
from rootless.runtime import compose, hooks
from rootless.runtime.state import OCI_VERSION

if TYPE_CHECKING:
    from rootless.cli.oci.main import Context

USAGE = "rootless-oci features"
DESCRIPTION = "Print what this runtime supports, as JSON"
OPTIONS = ()

_SECCOMP_ACTIONS = (
    "ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "KILL_THREAD", "LOG", "NOTIFY", "TRACE", "TRAP",
)  # fmt: skip
_SECCOMP_OPERATORS = ("EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE")


def run(options: dict[str, Any], arguments: list[str], context: Context) -> int:
    """Print the features document."""
    print(document.dumps(features()).decode())
    return 0


def features() -> dict[str, Any]:
    """The features document."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": list(hooks.MOMENTS),
        "mountOptions": compose.mount_options(),
        "linux": {
            "namespaces": sorted(namespaces.BY_NAME),
            "capabilities": list(capability.NAMES),
            "cgroup": {
                "v1": False,
                "v2": True,
                "systemd": False,
                "systemdUser": False,
                "rdma": True,
            },
            "seccomp": {
                "enabled": True,
                "actions": [f"SCMP_ACT_{name}" for name in _SECCOMP_ACTIONS],
                "operators": [f"SCMP_CMP_{name}" for name in _SECCOMP_OPERATORS],
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
        },
        "potentiallyUnsafeConfigAnnotations": [],
    }
