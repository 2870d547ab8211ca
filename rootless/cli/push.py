# SPDX-License-Identifier: Apache-2.0
"""`rootless push`: an image of the store into a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.cli.progress import shown
from rootless.engine import images
from rootless.errors import UsageError
from rootless.images.outgoing import Form
from rootless.oci import platform, reference
from rootless.storage import compress

if TYPE_CHECKING:
    from rootless.paths import Paths

USAGE = "rootless push [OPTIONS] NAME[:TAG]"
DESCRIPTION = """\
Upload an image to a registry. What was pulled or loaded goes as it came, with the same digests;
layers that never had a compression (of docker archives, of import) are compressed on the way."""
ARGUMENTS = (1, 1)
COMPLETE = "image"
OPTIONS = (
    Option("--all-tags", "-a", help="Push every tag of the repository"),
    Option(
        "--compression",
        value="kind",
        choices=compress.KINDS,
        help="Give the layers this compression; they get other digests",
    ),
    Option("--compression-level", value="n", help="gzip 0 to 9, zstd 1 to 19"),
    Option("--platform", value="string", help="Insist on this platform: os/arch[/variant]"),
    Option("--quiet", "-q", help="Print the name of the image only"),
    Option(
        "--tls-verify",
        default="true",
        help="Check the registry's certificate; false also allows plain http",
    ),
)


def run(options: dict[str, Any], arguments: list[str], paths: Paths) -> int:
    """Push one image, or every tag of its repository."""
    named = reference.parse(arguments[0])
    if named.digest:
        raise UsageError("cannot push by digest", hint="push a tag: rootless tag IMAGE NAME:TAG")
    if options["all_tags"]:
        if arguments[0].endswith(f":{named.tag}"):
            raise UsageError(
                "tag can't be used with --all-tags/-a", hint="name the repository alone"
            )
        wanted = images.tags_of(paths, named.repository)
    else:
        wanted = [named]
    form = _form(options)
    chosen = platform.parse(options["platform"]) if options["platform"] else None
    quiet = options["quiet"]
    if not quiet:
        if not options["all_tags"] and not arguments[0].endswith(f":{named.tag}"):
            print(f"Using default tag: {named.tag}")
        print(f"The push refers to repository [{named.repository}]", flush=True)
    for name in wanted:
        with shown(quiet=quiet) as progress:
            pushed = images.push(
                paths, name, progress, form=form, platform=chosen, verify_tls=options["tls_verify"]
            )
        if not quiet:
            print(f"{name.tag}: digest: {pushed.digest} size: {pushed.size}", flush=True)
    if quiet:
        print(named.repository if options["all_tags"] else named.canonical)
    return 0


def _form(options: dict[str, Any]) -> Form | None:
    kind, text = options["compression"], options["compression_level"]
    if text is None:
        return Form(kind) if kind else None
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f'invalid argument "{text}" for --compression-level: not a number')
    form = Form(kind or "gzip", int(text[:9]))
    compress.compressor(form.kind, form.level)  # refuses a level before anything is sent
    return form
