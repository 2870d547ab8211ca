# SPDX-License-Identifier: Apache-2.0
"""A plan for people and for programs: what would happen, and why. Runs nothing."""

from __future__ import annotations

import shlex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.engine.run import Plan

_WIDTH = 13


def as_document(plan: Plan) -> dict[str, Any]:
    """The plan as one JSON object; `config` is the OCI configuration it launches."""
    recipe = plan.recipe
    return {
        "id": plan.id,
        "image": {"name": plan.request.image or plan.request.rootfs, "id": plan.image["id"]},
        "idMap": {
            "uids": [_line(entry) for entry in plan.id_map.uids],
            "gids": [_line(entry) for entry in plan.id_map.gids],
            "source": plan.id_map.source,
            "key": plan.id_map.key,
        },
        "union": {"driver": plan.driver, "reason": plan.reason, "lowers": plan.lowers},
        "network": {"mode": plan.request.network, "reason": _network_reason(plan)},
        "cgroup": {"path": _cgroup(plan)[0], "reason": _cgroup(plan)[1]},
        "namespaces": [entry["type"] for entry in plan.config["linux"]["namespaces"]],
        "steps": [
            {"step": step.name, "does": step.describe(), "reason": step.reason}
            for step in (*recipe.steps, *recipe.privileged_steps, *recipe.final_steps)
        ],
        "credentials": {
            "user": recipe.identity.user or "0",
            "reason": recipe.identity.reason,
            "capabilities": plan.config["process"]["capabilities"]["bounding"],
            "noNewPrivileges": recipe.identity.no_new_privs,
        },
        "command": {
            "args": recipe.command.arguments,
            "cwd": recipe.command.directory,
            "env": plan.config["process"]["env"],
        },
        "config": plan.config,
    }


def as_text(plan: Plan) -> str:
    """The plan as lines: what, then the reason after a dash."""
    recipe, request = plan.recipe, plan.request
    lines = [_row("image", request.image or request.rootfs, plan.image["id"])]
    lines += [_row("uid map", _spell(plan.id_map.uids), plan.id_map.source)]
    if plan.id_map.gids != plan.id_map.uids:
        lines += [_row("gid map", _spell(plan.id_map.gids), "")]
    kinds = " ".join(entry["type"] for entry in plan.config["linux"]["namespaces"])
    lines += [
        _row("namespaces", kinds, ""),
        _row("network", request.network, _network_reason(plan)),
        _row("cgroup", *_cgroup(plan)),
    ]
    steps = (*recipe.steps, *recipe.privileged_steps, *recipe.final_steps)
    lines += [_row(step.name, step.describe(), step.reason) for step in steps]
    environment = " ".join(shlex.quote(entry) for entry in plan.config["process"]["env"])
    lines += [
        _row("credentials", recipe.identity.describe(), recipe.identity.reason),
        _row("environment", environment, "the image's and yours"),
        _row("directory", recipe.command.directory, "made if it is missing"),
        _row("command", shlex.join(recipe.command.arguments), ""),
    ]
    return "\n".join(lines)


def _row(label: str, text: str, reason: str) -> str:
    first, *others = text.split("\n")
    why = f"  - {reason}" if reason else ""
    return "\n".join([f"{label:<{_WIDTH}} {first}{why}", *(" " * (_WIDTH - 3) + o for o in others)])


def _spell(ranges: tuple[tuple[int, int, int], ...]) -> str:
    return ", ".join(
        f"{inside} -> {outside}" + (f" ({count} ids)" if count > 1 else "")
        for inside, outside, count in ranges
    )


def _line(entry: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("inside", "outside", "count"), entry, strict=True))


def _network_reason(plan: Plan) -> str:
    if plan.request.network == "host":
        return "the caller's network, nothing between"
    return "own network namespace with only the loopback interface"


def _cgroup(plan: Plan) -> tuple[str, str]:
    if plan.limits is None:
        return "the caller's", "no limit was asked for"
    return plan.limits.path, plan.limits.reason
