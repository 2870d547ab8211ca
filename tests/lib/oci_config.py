# SPDX-License-Identifier: Apache-2.0
"""Configurations of the runtime specification for tests: the least there can be, and one with everything."""

from __future__ import annotations

import json
from typing import Any


def smallest(**changes: Any) -> dict[str, Any]:
    """What cannot be left out, with members put in or replaced."""
    return {
        "ociVersion": "1.2.0",
        "process": {"args": ["true"], "cwd": "/"},
        "root": {"path": "rootfs"},
        **changes,
    }


def whole() -> dict[str, Any]:
    """Every property of runtime-spec 1.2 for Linux, each with a value that is in order."""
    config: dict[str, Any] = json.loads(_TEXT)  # shares no part with another one
    return config


_HOOK = {"path": "/usr/bin/hook", "args": ["hook", "-v"], "env": ["A=1"], "timeout": 5}
_IDS = [
    {"containerID": 0, "hostID": 1000, "size": 1},
    {"containerID": 1, "hostID": 100000, "size": 65535},
]
_THROTTLE = [{"major": 8, "minor": 0, "rate": 600}]

_WHOLE: dict[str, Any] = {
    "ociVersion": "1.2.1-rc.1+build",
    "process": {
        "terminal": True,
        "consoleSize": {"height": 25, "width": 80},
        "user": {"uid": 1, "gid": 1, "umask": 0o27, "additionalGids": [5, 6], "username": "x"},
        "args": ["sh", "-c", ""],
        "env": ["PATH=/bin", "EMPTY=", "EQUALS=a=b"],
        "cwd": "/home/user",
        "capabilities": {
            "bounding": ["CAP_KILL", "CAP_CHOWN"],
            "effective": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"],
            "permitted": ["CAP_KILL", "CAP_CHOWN"],
            "ambient": ["CAP_KILL"],
        },
        "rlimits": [
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 1024},
            {"type": "RLIMIT_LOCKS", "soft": 18446744073709551615, "hard": 18446744073709551615},
        ],
        "noNewPrivileges": True,
        "apparmorProfile": "acme",
        "selinuxLabel": "system_u:system_r:svirt_lxc_net_t:s0:c124,c675",
        "oomScoreAdj": -1000,
        "scheduler": {
            "policy": "SCHED_DEADLINE",
            "nice": 0,
            "priority": 0,
            "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM"],
            "runtime": 1_000_000,
            "deadline": 2_000_000,
            "period": 3_000_000,
        },
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7},
        "execCPUAffinity": {"initial": "0-3, 7", "final": "0"},
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "slartibartfast",
    "domainname": "magrathea",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {"destination": "/data", "source": "data", "options": ["rbind", "rro", "rslave"]},
        {
            "destination": "/mapped",
            "type": "tmpfs",
            "options": ["idmap", "tmpcopyup"],
            "uidMappings": _IDS,
            "gidMappings": _IDS,
        },
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
    ],
    "hooks": {
        "prestart": [_HOOK],
        "createRuntime": [_HOOK, {"path": "/usr/bin/other"}],
        "createContainer": [_HOOK],
        "startContainer": [_HOOK],
        "poststart": [_HOOK],
        "poststop": [_HOOK],
    },
    "annotations": {"com.example.key": "value", "empty": ""},
    "linux": {
        "namespaces": [
            {"type": "pid"},
            {"type": "network", "path": "/run/netns/a"},
            {"type": "ipc", "path": ""},
            {"type": "uts"},
            {"type": "mount"},
            {"type": "user"},
            {"type": "cgroup"},
            {"type": "time"},
        ],
        "uidMappings": _IDS,
        "gidMappings": _IDS,
        "devices": [
            {
                "path": "/dev/fuse",
                "type": "c",
                "major": 10,
                "minor": 229,
                "fileMode": 0o20666,
                "uid": 0,
                "gid": 0,
            },
            {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0},
            {"path": "/dev/pipe", "type": "p"},
        ],
        "cgroupsPath": "/myRuntime/myContainer",
        "resources": {
            "devices": [
                {"allow": False, "access": "rwm"},
                {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
            ],
            "memory": {
                "limit": 536870912,
                "reservation": 536870912,
                "swap": -1,
                "kernel": -1,
                "kernelTCP": -1,
                "swappiness": 0,
                "disableOOMKiller": False,
                "useHierarchy": False,
                "checkBeforeUpdate": True,
            },
            "cpu": {
                "shares": 1024,
                "quota": 1000000,
                "burst": 1000,
                "period": 500000,
                "realtimeRuntime": 950000,
                "realtimePeriod": 1000000,
                "cpus": "2-3",
                "mems": "0-7",
                "idle": 1,
            },
            "pids": {"limit": 32771},
            "blockIO": {
                "weight": 10,
                "leafWeight": 10,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                "throttleReadBpsDevice": _THROTTLE,
                "throttleWriteBpsDevice": _THROTTLE,
                "throttleReadIOPSDevice": _THROTTLE,
                "throttleWriteIOPSDevice": _THROTTLE,
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 9223372036854772000}],
            "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
            "unified": {"memory.high": "1000000", "io.max": "8:0 rbps=1"},
        },
        "sysctl": {
            "net.ipv4.ip_forward": "1",
            "kernel.shmmax": "1",
            "fs.mqueue.msg_max": "5",
            "user.max_user_namespaces": "3",
            "net/ipv4/conf/eth0.100/forwarding": "0",
        },
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/run/listener",
            "listenerMetadata": "who",
            "syscalls": [
                {"names": ["getcwd", "chmod"], "action": "SCMP_ACT_ALLOW"},
                {
                    "names": ["personality"],
                    "action": "SCMP_ACT_NOTIFY",
                    "errnoRet": 1,
                    "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
                },
            ],
        },
        "rootfsPropagation": "slave",
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "mountLabel": "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811",
        "personality": {"domain": "LINUX", "flags": []},
        "intelRdt": {
            "closID": "guaranteed",
            "l3CacheSchema": "L3:0=7f0;1=1f",
            "memBwSchema": "MB:0=20;1=70",
            "enableCMT": True,
            "enableMBM": False,
        },
        "timeOffsets": {
            "monotonic": {"secs": 172800, "nanosecs": 5},
            "boottime": {"secs": -604800},
        },
    },
}

_TEXT = json.dumps(_WHOLE)
