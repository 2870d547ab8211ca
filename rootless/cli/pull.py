# SPDX-License-Identifier: Apache-2.0
"""`rootless pull`: an image from a registry into the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.cli.progress import shown
from rootless.engine import images
from rootless.errors import UsageError
from rootless.oci import platform, reference

if TYPE_CHECKING:
    from rootless.oci.platform import Platform
    from rootless.oci.reference import Reference
    from rootless.paths import Paths

USAGE = "rootless pull [OPTIONS] NAME[:TAG|@DIGEST]"
DESCRIPTION = "Download an image from a registry."
ARGUMENTS = (1, 1)
OPTIONS = (
    Option("--all-tags", "-a", help="Pull every tag of the repository"),
    Option(
        "--platform", value="string", help="Take the image for this platform: os/arch[/variant]"
    ),
    Option("--quiet", "-q", help="Print the name of the image only"),
    Option(
        "--tls-verify",
        default="true",
        help="Check the registry's certificate; false also allows plain http",
    ),
)


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Pull one image, or every tag of its repository, and print the full name last."""
    wanted = reference.parse(arguments[0])
    is_bare = not wanted.digest and not arguments[0].endswith(f":{wanted.tag}")
    chosen = platform.parse(options["platform"]) if options["platform"] else None
    verify_tls, quiet = options["tls_verify"], options["quiet"]
    if not options["all_tags"]:
        if not quiet and is_bare:
            print(f"Using default tag: {wanted.tag}")
        _pull(paths, wanted, chosen, quiet=quiet, verify_tls=verify_tls)
        print(wanted.canonical)
        return 0
    if not is_bare:
        raise UsageError("tag can't be used with --all-tags/-a", hint="name the repository alone")
    for tag in images.remote_tags(wanted, verify_tls=verify_tls):
        named = reference.parse(f"{wanted.repository}:{tag}")
        _pull(paths, named, chosen, quiet=quiet, verify_tls=verify_tls)
    print(wanted.repository)
    return 0


def _pull(
    paths: Paths, wanted: Reference, chosen: Platform | None, *, quiet: bool, verify_tls: bool
) -> None:
    if not quiet:
        print(f"{wanted.digest or wanted.tag}: Pulling from {wanted.path}", flush=True)
    with shown(quiet=quiet) as progress:
        pulled = images.fetch(paths, wanted, chosen, progress, verify_tls=verify_tls)
    if not quiet:
        status = "Downloaded newer image for" if pulled.is_news else "Image is up to date for"
        print(f"Digest: {pulled.digest}")
        print(f"Status: {status} {wanted.familiar}")
