# SPDX-License-Identifier: Apache-2.0
"""The layout on disk and its version: the one owner of every path below the store.

Nobody else joins paths under the store. Reading this module is reading the layout:

    <data>/                          $ROOTLESS_ROOT, else $XDG_DATA_HOME/rootless
        version                      the layout's number; an unknown one is refused
        oci-layout, index.json       with blobs/: an OCI image layout, derived and readable by others
        blobs/sha256/<hex>           every blob as it came, named by its digest
        refs/<quoted reference>      one JSON file a tag: reference -> image
        images/<hex>.json            one JSON file an image: its config and layers, ready to run
        compressed/<diff id>.<how>.json  what a layer becomes when it is compressed for a push
        manifests/<quoted reference> one JSON file a manifest list that is being put together here
        layers/<id map>/<diff id>/   a layer unpacked under one id map: tree/ and layer.json
        host/                        the embedded image made of the machine's own userland
        containers/<id>/             container.json, config.json, upper/ work/ merged/
        names/<name>                 a symbolic link whose target is the container's id
        locks/<kind>-<name>          empty files that are flocked
        partial/                     downloads that were interrupted, kept for some time
        tmp/                         work in progress; whatever nobody holds locked is garbage
    <run>/                           $ROOTLESS_RUN, else $XDG_RUNTIME_DIR/rootless, else /tmp/rootless-<uid>
        containers/<id>/             state.json and sockets of what runs now; gone after a reboot
"""

from __future__ import annotations

import os

from rootless.errors import HostUnable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LAYOUT_VERSION = 1


class Paths:
    """Where things are, for one store and one runtime directory. Joins names, touches nothing."""

    __slots__ = ("data", "run")

    def __init__(self, data: str, run: str) -> None:
        self.data = data
        self.run = run

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] = os.environ, *, data: str = "", run: str = ""
    ) -> Paths:
        """The caller's paths by the XDG base directory specification; `data` and `run` override.

        Raises HostUnable when neither HOME nor ROOTLESS_ROOT says where the store may be.
        """
        data = data or environ.get("ROOTLESS_ROOT", "")
        if not data:
            base = environ.get("XDG_DATA_HOME", "")
            if not base.startswith("/"):
                home = environ.get("HOME", "")
                if not home.startswith("/"):
                    raise HostUnable(
                        "cannot tell where the store is: HOME is not set",
                        hint="set HOME, or name a directory: export ROOTLESS_ROOT=/path/to/store",
                    )
                base = home + "/.local/share"
            data = base + "/rootless"
        run = run or environ.get("ROOTLESS_RUN", "") or runtime_directory(environ)
        return cls(os.path.abspath(data), os.path.abspath(run))

    # -- the store ------------------------------------------------------------------------------

    @property
    def version(self) -> str:
        return self.data + "/version"

    @property
    def oci_layout(self) -> str:
        return self.data + "/oci-layout"

    @property
    def index(self) -> str:
        return self.data + "/index.json"

    @property
    def blobs(self) -> str:
        return self.data + "/blobs"

    def blob(self, digest: str) -> str:
        """The blob named by a digest that has been checked (`oci.digest.parse`)."""
        algorithm, _, encoded = digest.partition(":")
        return f"{self.data}/blobs/{algorithm}/{encoded}"

    @property
    def references(self) -> str:
        return self.data + "/refs"

    def reference(self, name: str) -> str:
        """The record of one canonical reference, such as `docker.io/library/debian:12`."""
        return f"{self.data}/refs/{_quoted(name)}"

    @property
    def manifests(self) -> str:
        return self.data + "/manifests"

    def manifest_list(self, name: str) -> str:
        """The record of one manifest list, by its canonical reference."""
        return f"{self.data}/manifests/{_quoted(name)}"

    @property
    def compressed_notes(self) -> str:
        return self.data + "/compressed"

    def compressed(self, diff_id: str, how: str) -> str:
        """The note of what a layer is called in another compression, such as `gzip`."""
        return f"{self.compressed_notes}/{diff_id.partition(':')[2]}.{how}.json"

    @property
    def images(self) -> str:
        return self.data + "/images"

    def image(self, image_id: str) -> str:
        """The record of one image, by its id (`sha256:<hex>`, the digest of its config)."""
        return f"{self.data}/images/{image_id.partition(':')[2]}.json"

    @property
    def layers(self) -> str:
        return self.data + "/layers"

    def layer(self, id_map: str, diff_id: str) -> str:
        """A layer unpacked under the id map with that key; its presence means it is complete."""
        return f"{self.data}/layers/{id_map}/{diff_id.partition(':')[2]}"

    @property
    def host_image(self) -> str:
        return self.data + "/host"

    @property
    def partial(self) -> str:
        return self.data + "/partial"

    def partial_blob(self, digest: str) -> str:
        """The beginning of a blob that has not come to its end."""
        return f"{self.data}/partial/{digest.replace(':', '-', 1)}"

    @property
    def tmp(self) -> str:
        return self.data + "/tmp"

    def lock(self, kind: str, name: str) -> str:
        """The lock file of one object, such as ("layer", <hex>)."""
        return f"{self.data}/locks/{kind}-{name}"

    @property
    def locks(self) -> str:
        return self.data + "/locks"

    # -- containers -----------------------------------------------------------------------------

    @property
    def containers(self) -> str:
        return self.data + "/containers"

    def container(self, container_id: str) -> str:
        return f"{self.data}/containers/{container_id}"

    def container_record(self, container_id: str) -> str:
        return f"{self.data}/containers/{container_id}/container.json"

    @property
    def names(self) -> str:
        return self.data + "/names"

    def name(self, name: str) -> str:
        return f"{self.data}/names/{name}"

    # -- what runs now --------------------------------------------------------------------------

    @property
    def running(self) -> str:
        return self.run + "/containers"

    def state_directory(self, container_id: str) -> str:
        return f"{self.run}/containers/{container_id}"


def _quoted(reference: str) -> str:
    return reference.replace("%", "%25").replace("/", "%2F")


def runtime_directory(environ: Mapping[str, str] = os.environ) -> str:
    """XDG_RUNTIME_DIR if it is there and ours, else /run/user/<uid>, else /tmp/rootless-<uid>.

    A batch step or a cron job often has none, or inherits another user's through su.
    """
    uid = os.getuid()
    for base in (environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"):
        if base.startswith("/") and _is_private(base, uid):
            return base + "/rootless"
    return f"/tmp/rootless-{uid}"


def _is_private(directory: str, uid: int) -> bool:
    try:
        found = os.stat(directory)
    except OSError:
        return False
    return found.st_uid == uid and not found.st_mode & 0o022 and os.access(directory, os.W_OK)
