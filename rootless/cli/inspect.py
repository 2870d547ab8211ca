# SPDX-License-Identifier: Apache-2.0
"""`rootless inspect`: everything known about containers and images, as documents."""

from __future__ import annotations

from rootless.cli.each import for_each
from rootless.cli.options import Option
from rootless.cli.table import print_documents
from rootless.engine import containers, images
from rootless.engine.container_document import container_document
from rootless.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.oci.platform import Platform
    from rootless.paths import Paths

USAGE = "rootless inspect [OPTIONS] NAME|ID [NAME|ID...]"
DESCRIPTION = "Show everything about containers or images, as JSON or by a template."
ARGUMENTS = (1, None)
COMPLETE = "container image"
OPTIONS = (
    Option("--format", "-f", value="string", help="json or a Go template"),
    Option(
        "--platform", value="string", help="Insist on this platform for images: os/arch[/variant]"
    ),
    Option("--size", "-s", help="Show the sizes of containers"),
    Option("--type", value="string", choices=("container", "image"), help="Only look for"),
)


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Print a document for each name; what is not there is reported after what is."""
    documents: list[dict[str, Any]] = []
    missing: list[str] = []
    for name in arguments:
        found = _document(paths, name, options)
        if found is None:
            missing.append(name)
        else:
            documents.append(found)
    print_documents(documents, options["format"] or "")
    kind = options["type"] or "object"

    def fail(name: str) -> None:
        raise NotFound(f"no such {kind}: {name}", hint=_HINTS[options["type"]])

    return for_each(missing, fail)


_HINTS = {
    None: "see rootless ps -a and rootless images",
    "container": "rootless ps -a",
    "image": "rootless images",
}


def _platform(options: dict[str, Any]) -> Platform | None:
    if not options["platform"]:
        return None
    from rootless.oci import platform

    return platform.parse(options["platform"])


def _document(paths: Paths, name: str, options: dict[str, Any]) -> dict[str, Any] | None:
    """The document of a container or else an image of that name, or None."""
    if options["type"] != "image":
        container = containers.find(paths, name)
        if container is not None:
            document = container_document(paths, container)
            if options["size"]:
                document["SizeRw"], document["SizeRootFs"] = containers.sizes(paths, container)
            return document
    if options["type"] != "container":
        try:
            return images.inspect(paths, name, _platform(options))
        except NotFound:
            return None
    return None
