# SPDX-License-Identifier: Apache-2.0
"""config.json before anybody believes it: what is accepted, and one sentence for everything else."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless.errors import Invalid, NotFound
from rootless.linux import capability, namespaces, schedule
from rootless.oci import runtime, runtime_linux
from rootless.runtime import compose, default_spec, rootfs
from rootless.runtime.idmap import IdMap
from tests.lib import oci_config

EXAMPLES = int(os.environ.get("ROOTLESS_FUZZ", "5000"))
MAP = IdMap(((0, 1000, 1), (1, 100000, 65536)), ((0, 1000, 1), (1, 100000, 65536)), "test")


def replaced(path: str, value: object) -> dict[str, Any]:
    """The whole configuration with one value, named by its path with slashes, replaced."""
    config = oci_config.whole()
    *way, last = [int(step) if step.isdecimal() else step for step in path.split("/")]
    place: Any = config
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return config


def refusal(config: object) -> str:
    with pytest.raises(Invalid) as caught:
        runtime.validate(config)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_whole_configuration_is_accepted_as_it_is() -> None:
    config = oci_config.whole()
    assert runtime.validate(config) is config
    assert config == oci_config.whole()


def test_smallest_configuration_is_accepted() -> None:
    runtime.validate(oci_config.smallest())
    runtime.validate({"ociVersion": "1.0.0", "root": {"path": "/"}})


@pytest.mark.parametrize("rootless", [True, False])
def test_example_of_spec_is_accepted(rootless: bool) -> None:
    runtime.validate(default_spec.default(rootless=rootless))


def test_unknown_properties_are_ignored() -> None:
    config = oci_config.smallest(zos={"x": 1}, solaris=None)
    config["process"]["future"] = [None, {}]
    assert runtime.validate(config)["process"]["future"] == [None, {}]


def test_null_is_a_member_that_is_not_there() -> None:
    """Go's encoder writes null for a list that was not set."""
    config = oci_config.smallest(mounts=None, hooks=None, annotations=None)
    config["process"]["env"] = None
    assert runtime.validate(config) == oci_config.smallest()
    assert refusal(replaced("root/path", None)) == "root.path: is missing"


def test_names_are_the_ones_the_kernel_side_knows() -> None:
    assert frozenset(capability.NAMES) == runtime.CAPABILITIES
    assert set(namespaces.BY_NAME) == set(runtime_linux.NAMESPACES)
    for name in schedule.POLICIES:
        runtime.validate_process({"args": ["a"], "cwd": "/", "scheduler": {"policy": name}})


# A path, what stands there instead (... for nothing), and how the refusal begins. The path of the
# refusal is the same in dotted form, unless the message begins with another one.
MALFORMED: list[tuple[str, object, str]] = [
    ("ociVersion", ..., "is missing"),
    ("ociVersion", 1, "must be a string, not a number"),
    ("ociVersion", "", "not a semantic version: it is empty"),
    ("ociVersion", "1.2", "not a semantic version: 1.2"),
    ("ociVersion", "0.5.0-dev", "version 0.5.0-dev is not supported, only 1.x"),
    ("ociVersion", "2.0.0", "version 2.0.0 is not supported"),
    ("ociVersion", "1.٢.0", "not a semantic version"),
    ("root", ..., "is missing"),
    ("root", [], "must be an object, not an array"),
    ("root/path", "", "is empty"),
    ("root/path", "a\0b", "holds a NUL character"),
    ("root/path", "\ud800", "holds half a surrogate pair"),
    ("root/readonly", "true", "must be true or false, not a string"),
    ("hostname", "h" * 65, "is longer than 64 bytes"),
    ("hostname", "ü" * 33, "is longer than 64 bytes"),
    ("domainname", 7, "must be a string, not a number"),
    ("annotations", [], "must be an object, not an array"),
    ("annotations/a.b", 1, 'annotations["a.b"]: must be a string'),
    ("annotations/", "x", 'annotations[""]: is empty'),
    # process
    ("process", 1, "must be an object"),
    ("process/args", ..., "is missing"),
    ("process/args", "sh", "must be an array, not a string"),
    ("process/args", [], "is empty: it must name a command"),
    ("process/args/0", "", "is empty: it must name a command"),
    ("process/args/2", None, "must be a string, not null"),
    ("process/args/1", "\0", "holds a NUL character"),
    ("process/cwd", ..., "is missing"),
    ("process/cwd", "", "must be an absolute path: it is empty"),
    ("process/cwd", "home", "must be an absolute path: home"),
    ("process/cwd", "/a\0", "holds a NUL character"),
    ("process/env/0", "PATH", "must be KEY=VALUE: PATH"),
    ("process/env/1", "=x", "must be KEY=VALUE: =x"),
    ("process/env", {}, "must be an array, not an object"),
    ("process/terminal", 1, "must be true or false, not a number"),
    ("process/consoleSize/height", ..., "is missing"),
    ("process/consoleSize/width", 65536, "must be from 0 to 65535, not 65536"),
    ("process/user/uid", -1, "must be from 0 to 4294967294, not -1"),
    ("process/user/uid", 4294967295, "must be from 0 to 4294967294"),
    ("process/user/gid", 1.0, "must be a whole number, not a fraction"),
    ("process/user/uid", True, "must be a whole number, not true or false"),
    ("process/user/umask", 0o1000, "must be from 0 to 511"),
    ("process/user/additionalGids/1", "5", "must be a whole number, not a string"),
    ("process/capabilities", ["CAP_KILL"], "must be an object, not an array"),
    ("process/capabilities/bounding/1", "CAP_FOO", "no such capability: CAP_FOO"),
    ("process/capabilities/ambient/0", "cap_kill", "no such capability: cap_kill"),
    ("process/capabilities/effective/0", "CAP_BPF", "CAP_BPF is not in process.capabilities.permitted"),
    ("process/rlimits/0/type", "RLIMIT_X", "no such limit: RLIMIT_X"),
    ("process/rlimits/0/soft", 2000, "2000 is more than the hard limit, 1024"),
    ("process/rlimits/0/hard", -1, "must be from 0 to"),
    ("process/rlimits/0/hard", ..., "is missing"),
    ("process/rlimits/1/type", "RLIMIT_CORE", "stands twice, here and in [0]: RLIMIT_CORE"),
    ("process/oomScoreAdj", 1001, "must be from -1000 to 1000, not 1001"),
    ("process/scheduler/policy", "SCHED_FAIR", "no such policy: SCHED_FAIR"),
    ("process/scheduler/policy", ..., "is missing"),
    ("process/scheduler/policy", "SCHED_OTHER",
     "process.scheduler.runtime: SCHED_OTHER has no runtime, only SCHED_DEADLINE has"),
    ("process/scheduler/priority", 5, "SCHED_DEADLINE has no priority"),
    ("process/scheduler/nice", 20, "must be from -20 to 19"),
    ("process/scheduler/flags/1", "SCHED_FLAG_X", "no such flag: SCHED_FLAG_X"),
    ("process/ioPriority/class", "IOPRIO_CLASS_NONE", "no such class"),
    ("process/ioPriority/priority", 8, "must be from 0 to 7"),
    ("process/execCPUAffinity/initial", "3-1", "not a list of processors: 3-1"),
    ("process/execCPUAffinity/final", "0-99999", "not a list of processors"),
    ("process/execCPUAffinity/final", "a", "not a list of processors: a"),
    ("process/apparmorProfile", False, "must be a string, not true or false"),
    ("process/selinuxLabel", [], "must be a string, not an array"),
    ("process/noNewPrivileges", "no", "must be true or false"),
    # mounts
    ("mounts", {}, "must be an array"),
    ("mounts/0/destination", ..., "is missing"),
    ("mounts/0/destination", "proc", "must be an absolute path: proc"),
    ("mounts/0/destination", "/a/../.", "cannot be mounted over the container's root"),
    ("mounts/0/type", ..., "is missing: only a bind mount does without"),
    ("mounts/0/type", 5, "must be a string"),
    ("mounts/2/source", ..., "is missing: it says what the bind mount shows"),
    ("mounts/1/options/0", "", "is empty"),
    ("mounts/1/options", "ro", "must be an array, not a string"),
    ("mounts/3/gidMappings", ..., "is missing, and uidMappings is there"),
    ("mounts/3/uidMappings/1/hostID", 1000, "1000 is in [0] already"),
    # hooks
    ("hooks/prestart/0/path", "hook", "must be an absolute path: hook"),
    ("hooks/createRuntime/1/path", ..., "is missing"),
    ("hooks/poststart/0/timeout", 0, "must be from 1 to"),
    ("hooks/poststop/0/timeout", 1.5, "must be a whole number, not a fraction"),
    ("hooks/startContainer/0/env/0", "A", "must be KEY=VALUE: A"),
    ("hooks/createContainer", {}, "must be an array, not an object"),
    # linux
    ("linux", [], "must be an object"),
    ("linux/namespaces/0/type", "pod", "no such namespace: pod"),
    ("linux/namespaces/0/type", "uts", "linux.namespaces[3].type: stands twice, here and in [0]: uts"),
    ("linux/namespaces/1/path", "netns/a", "must be an absolute path: netns/a"),
    ("linux/namespaces/3/type", ..., "is missing"),
    ("linux/namespaces/3", {"type": "uts", "path": 3}, "linux.namespaces[3].path: must be a string"),
    ("linux/uidMappings/0/size", 0, "must be from 1 to"),
    ("linux/uidMappings/0/size", 2, "linux.uidMappings[1].containerID: 1 is in [0] already"),
    ("linux/uidMappings/1/hostID", 4294967290, "linux.uidMappings[1]: 4294967290 and the 65534 after"),
    ("linux/gidMappings/0/containerID", -1, "must be from 0 to"),
    ("linux/gidMappings/1/size", ..., "is missing"),
    ("linux/gidMappings", [{"containerID": n, "hostID": n, "size": 1} for n in range(341)],
     "has 341 entries"),
    ("linux/devices/0/type", "d", "no such type of device: d"),
    ("linux/devices/0/path", "dev/fuse", "must be an absolute path"),
    ("linux/devices/1/path", "/dev/fuse", "stands twice, here and in [0]: /dev/fuse"),
    ("linux/devices/1/major", ..., "is missing: a device of type b has one"),
    ("linux/devices/1/minor", -1, "must be from 0 to"),
    ("linux/devices/0/fileMode", -1, "must be from 0 to"),
    ("linux/cgroupsPath", 1, "must be a string"),
    ("linux/rootfsPropagation", "public", "no such propagation: public"),
    ("linux/maskedPaths/0", "proc/kcore", "must be an absolute path"),
    ("linux/readonlyPaths", "/proc", "must be an array"),
    ("linux/mountLabel", 0, "must be a string"),
    ("linux/personality/domain", "LINUX64", "no such domain: LINUX64"),
    ("linux/personality/flags", ["X"], "there are none yet"),
    ("linux/intelRdt/closID", "../a", "must be the name of a directory: ../a"),
    ("linux/timeOffsets", {"realtime": {}}, 'linux.timeOffsets.realtime: no such clock: realtime'),
    ("linux/timeOffsets/monotonic/nanosecs", 10**9, "must be from 0 to 999999999"),
    ("linux/sysctl/kernel.shmmax", 1, 'linux.sysctl["kernel.shmmax"]: must be a string'),
    ("linux/sysctl/kernel.panic", "1", 'linux.sysctl["kernel.panic"]: is a setting of the whole machine'),
    ("linux/sysctl/kernel.hostname", "x", 'linux.sysctl["kernel.hostname"]: cannot be set here'),
    ("linux/sysctl/net..x", "1", 'linux.sysctl["net..x"]: not the name of a kernel setting'),
    ("linux/sysctl/swap", "1", "linux.sysctl.swap: not the name of a kernel setting"),
    ("linux/resources/memory/limit", -2, "must be from -1 to"),
    ("linux/resources/memory/swappiness", 101, "must be from 0 to 100"),
    ("linux/resources/cpu/shares", -1, "must be from 0 to"),
    ("linux/resources/cpu/cpus", 0, "must be a string"),
    ("linux/resources/pids/limit", "5", "must be a whole number, not a string"),
    ("linux/resources/blockIO/weight", 65536, "must be from 0 to 65535"),
    ("linux/resources/blockIO/throttleReadBpsDevice/0/rate", ..., "is missing"),
    ("linux/resources/hugepageLimits/0/pageSize", "2M", "not a page size: 2M"),
    ("linux/resources/hugepageLimits/0/limit", 1 << 64, "must be from 0 to"),
    ("linux/resources/rdma/mlx5_1/hcaHandles", -3, "must be from 0 to"),
    ("linux/resources/devices/1/access", "rx", "must be made of r, w and m: rx"),
    ("linux/resources/devices/0/allow", ..., "is missing"),
    ("linux/resources/unified/cgroup", "1", "linux.resources.unified.cgroup: must be the name of a file"),
    ("linux/resources/unified/memory.high", 1,
     'linux.resources.unified["memory.high"]: must be a string'),
    ("linux/seccomp/defaultAction", "ALLOW", "no such action: ALLOW"),
    ("linux/seccomp/defaultAction", "SCMP_ACT_NOTIFY", "SCMP_ACT_NOTIFY cannot be the default"),
    ("linux/seccomp/architectures/1", "x86", "no such architecture: x86"),
    ("linux/seccomp/flags/0", "LOG", "no such flag: LOG"),
    ("linux/seccomp/listenerPath", ..., "is missing: SCMP_ACT_NOTIFY needs a listener"),
    ("linux/seccomp/syscalls/0/names", [], "is empty: it must name a system call"),
    ("linux/seccomp/syscalls/1/action", ..., "is missing"),
    ("linux/seccomp/syscalls/1/args/0/op", "EQ", "no such operator: EQ"),
    ("linux/seccomp/syscalls/1/args/0/index", 6, "must be from 0 to 5"),
]  # fmt: skip


def dotted(path: str) -> str:
    text = ""
    for step in path.split("/"):
        text += f"[{step}]" if step.isdecimal() else f".{step}" if text else step
    return text


@pytest.mark.parametrize(
    ("path", "value", "beginning"),
    MALFORMED,
    ids=[f"{n}-{path}" for n, (path, _, _) in enumerate(MALFORMED)],
)
def test_malformed_value_is_refused_with_its_path(path: str, value: object, beginning: str) -> None:
    has_own_path = beginning.startswith(("annotations", "linux.", "process."))
    expected = beginning if has_own_path else f"{dotted(path)}: {beginning}"
    assert refusal(replaced(path, value)).startswith(expected)


@pytest.mark.parametrize("value", [None, [], "x", 1, True])
def test_document_that_is_no_object_is_refused(value: object) -> None:
    assert refusal(value).startswith("config.json: must be an object, not ")


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("uts", "hostname"),
        ("user", "linux.uidMappings"),
        ("time", "linux.timeOffsets"),
        ("network", 'linux.sysctl["net.ipv4.ip_forward"]'),
        ("ipc", 'linux.sysctl["kernel.shmmax"]'),
    ],
)
def test_what_needs_a_namespace_is_refused_without(kind: str, path: str) -> None:
    config = oci_config.whole()
    spaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [entry for entry in spaces if entry["type"] != kind]
    assert (
        refusal(config)
        == f"{path}: cannot be set: the container shares the host's {kind} namespace"
    )


def test_refusal_shows_little_of_a_long_value_and_no_control_character() -> None:
    message = refusal(replaced("process/capabilities/bounding/0", "X\n\x1b" * 10_000))
    assert len(message) < 500
    assert message.isprintable()


def test_hint_says_what_there_is() -> None:
    with pytest.raises(Invalid) as caught:
        runtime.validate(replaced("linux/namespaces/0/type", "net"))
    assert caught.value.hint == "use cgroup, ipc, mount, network, pid, time, user or uts"


# -- the file ----------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], str]:
    def to_file(data: bytes) -> str:
        path = tmp_path / "config.json"
        path.write_bytes(data)
        return str(path)

    return to_file


def test_file_is_read(write: Callable[[bytes], str]) -> None:
    assert runtime.load(write(json.dumps(oci_config.whole()).encode())) == oci_config.whole()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"{", "cannot read"),
        (b'{"ociVersion":"1.0.0","ociVersion":"1.0.0"}', "the key 'ociVersion' stands twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "nested deeper than 64 levels"),
        (b'{"ociVersion":"1.0.0","root":{"path":"/"},"x":NaN}', "NaN is not JSON"),
        (b'{"ociVersion":"1.0.0","root":{"path":"/"},"x":1e999}', "JSON cannot express"),
        (b'{"ociVersion":"1.0.0","root":{"path":"/"},"x":"\\ud800"}', "JSON cannot express"),
        (b'{"ociVersion":"1.0.0","root":{"path":"/"},"\\udfff":1}', "JSON cannot express"),
        (b'{"ociVersion":"1.0.0","root":{"path":"/"}} {}', "something follows"),
        (b'{"ociVersion":"1.0.0","x":"\xff"}', "cannot read"),
        (b" " * (runtime.MAX_SIZE + 1), f"larger than {runtime.MAX_SIZE} bytes"),
        (b'{"ociVersion":"1.0.0","x":' + b"9" * 5000 + b"}", "cannot read"),
    ],
)  # fmt: skip
def test_file_that_is_no_strict_json_is_refused(
    write: Callable[[bytes], str], data: bytes, message: str
) -> None:
    path = write(data)
    with pytest.raises(Invalid) as caught:
        runtime.load(path)
    assert message in caught.value.message
    assert path in caught.value.message


def test_file_that_is_missing_or_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        runtime.load(str(tmp_path / "config.json"))
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", "/dev/zero"):
        with pytest.raises(Invalid, match="it is not a regular file"):
            runtime.load(str(path))


def test_process_of_its_own_is_read(write: Callable[[bytes], str]) -> None:
    assert runtime.load_process(write(b'{"args":["a"],"cwd":"/"}')) == {"args": ["a"], "cwd": "/"}
    with pytest.raises(Invalid, match=r"^process\.env\[0\]: must be KEY=VALUE: x$"):
        runtime.load_process(write(b'{"args":["a"],"cwd":"/","env":["x"]}'))
    with pytest.raises(Invalid, match=r"^process: must be an object, not an array$"):
        runtime.load_process(write(b"[]"))


# -- any input ---------------------------------------------------------------------------------------

_strange = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(["", "/", "/proc", "a=b", "CAP_KILL", "\0", "\ud800", "..", "user", "rbind",
                     "idmap", "tmpcopyup", "0-", "-1", "SCHED_RR", "p", "1.0.0"]),
    st.sampled_from([-1, 0, 1, 65536, 2**31, 2**32 - 1, 2**32, 2**63, 2**64, 10**40]),
    st.lists(st.integers(), max_size=3), st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)  # fmt: skip


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    found: list[tuple[Any, Any]] = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, element in pairs:
        found.append((value, key))
        if isinstance(element, (dict, list)):
            found += _places(element)
    return found


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """The whole configuration with a few values replaced, removed, repeated or moved."""
    config = oci_config.whole()
    for _ in range(draw(st.integers(1, 4))):
        places = _places(config)
        container, key = places[draw(st.integers(0, len(places) - 1))]
        change = draw(st.sampled_from(["replace", "remove", "repeat", "copy", "rename"]))
        if change == "replace":
            container[key] = draw(_strange)
        elif change == "remove":
            del container[key]
        elif change == "repeat" and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        elif change == "copy":
            other, name = places[draw(st.integers(0, len(places) - 1))]
            container[key] = copy.deepcopy(other[name])
        elif change == "rename" and isinstance(container, dict):
            container[draw(st.text(max_size=8))] = container[key]
    return config


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=EXAMPLES <= 5000,
    suppress_health_check=list(HealthCheck),
)
@given(mutated())
def test_mutated_configuration_is_refused_in_one_sentence_or_can_be_composed(
    config: dict[str, Any],
) -> None:
    try:
        runtime.validate(config)
    except Invalid as refused:
        message = refused.message
    else:
        message = ""
    assert message.isprintable()
    assert len(message) < 1000
    if message:
        return
    if "process" in config:
        root = rootfs.BindRoot("/bundle/rootfs", "test")
        made = compose.compose(config, root, MAP, bundle="/bundle", deep=False)
        for step in (*made.steps, *made.final_steps):
            assert isinstance(step.describe(), str)
        compose.process_steps(config["process"], config.get("linux", {}), exec_=True)
