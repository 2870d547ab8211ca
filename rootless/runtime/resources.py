# SPDX-License-Identifier: Apache-2.0
"""linux.resources of a configuration as files of cgroup v2 (config-linux.md, "Control groups").

The conversions from v1's units are the ones runc and crun agree on.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_PERIOD = 100_000


class Resources:
    """Limits as the specification spells them."""

    __slots__ = ("spelled",)

    def __init__(self, spelled: dict[str, Any]) -> None:
        self.spelled = spelled

    def files(self) -> Iterator[tuple[str, str, str]]:
        """(controller, file, content) in the order they have to be written."""
        yield from _memory(self.spelled.get("memory") or {})
        yield from _cpu(self.spelled.get("cpu") or {})
        pids = (self.spelled.get("pids") or {}).get("limit")
        if pids is not None and pids != 0:
            yield "pids", "pids.max", _limit(pids)
        yield from _block_io(self.spelled.get("blockIO") or {})
        for entry in self.spelled.get("hugepageLimits") or ():
            yield "hugetlb", f"hugetlb.{entry['pageSize']}.max", _limit(entry["limit"])
        for device, entry in (self.spelled.get("rdma") or {}).items():
            handles, objects = entry.get("hcaHandles", "max"), entry.get("hcaObjects", "max")
            yield "rdma", "rdma.max", f"{device} hca_handle={handles} hca_object={objects}"
        # `unified` comes last: it may repeat a file, and then it is meant (config-linux.md).
        for name, content in (self.spelled.get("unified") or {}).items():
            yield name.partition(".")[0], name, content


def _limit(number: int) -> str:
    return "max" if number < 0 else str(number)


def _memory(memory: dict[str, int]) -> Iterator[tuple[str, str, str]]:
    limit, swap = memory.get("limit"), memory.get("swap")
    if limit:
        yield "memory", "memory.max", _limit(limit)
    if swap:
        # v1 counts memory and swap together, v2 swap alone.
        alone = swap - limit if swap > 0 and limit and limit > 0 else swap
        yield "memory", "memory.swap.max", _limit(alone)
    if memory.get("reservation"):
        yield "memory", "memory.low", _limit(memory["reservation"])


def _cpu(cpu: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    if cpu.get("shares"):
        yield "cpu", "cpu.weight", str(weight_of_shares(cpu["shares"]))
    quota, period = cpu.get("quota"), cpu.get("period") or _PERIOD
    if quota or cpu.get("period"):
        yield "cpu", "cpu.max", f"{quota if quota and quota > 0 else 'max'} {period}"
    if cpu.get("burst"):
        yield "cpu", "cpu.max.burst", str(cpu["burst"])
    if cpu.get("idle") is not None:
        yield "cpu", "cpu.idle", str(cpu["idle"])
    for key in ("cpus", "mems"):
        if cpu.get(key):
            yield "cpuset", f"cpuset.{key}", cpu[key]


def weight_of_shares(shares: int) -> int:
    """cpu.weight (1..10000) for cpu.shares (2..262144), so that 1024 shares are the default 100."""
    from math import log2

    bounded = min(max(shares, 2), 262144)
    position = log2(bounded)
    return max(1, min(10000, round(10 ** ((position * position + 125 * position) / 612 - 7 / 34))))


def _block_io(block: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    if block.get("weight"):
        yield "io", "io.bfq.weight", str(block["weight"])
    for key, word in (
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ):
        for entry in block.get(key) or ():
            yield "io", "io.max", f"{entry['major']}:{entry['minor']} {word}={entry['rate']}"
