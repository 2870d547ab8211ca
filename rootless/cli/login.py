# SPDX-License-Identifier: Apache-2.0
"""`rootless login`: credentials for a registry, tried and kept."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Any

from rootless.cli.options import Option
from rootless.errors import Invalid, UsageError
from rootless.images import credentials, login
from rootless.images.credentials import Credentials
from rootless.oci import reference

if TYPE_CHECKING:
    from rootless.paths import Paths

USAGE = "rootless login [OPTIONS] [SERVER]"
DESCRIPTION = """\
Log in to a registry (default docker.io). The credentials are tried and kept in docker's config.json,
or by the credential helper that it names."""
ARGUMENTS = (0, 1)
COMPLETE = ""
OPTIONS = (
    Option("--password", "-p", value="string", help="Password; seen by every user of the machine"),
    Option("--password-stdin", help="Read the password from standard input"),
    Option(
        "--tls-verify",
        default="true",
        help="Check the registry's certificate; false also allows plain http",
    ),
    Option("--username", "-u", value="string", help="User name"),
)

_MAX_PASSWORD = 1 << 20


def run(options: dict[str, Any], arguments: list[str], _paths: Paths) -> int:
    """Ask for what is missing, try it, keep it."""
    domain = domain_of(arguments)
    offered = _credentials(options, domain)
    tried = login.verify(domain, offered, verify_tls=options["tls_verify"])
    kept = login.keep(domain, tried)
    if not kept.helper:
        print(
            f"WARNING! Your credentials are stored unencrypted in '{kept.path}'.\n"
            "Configure a credential helper to remove this warning.",
            file=sys.stderr,
        )
    print("Login Succeeded")
    return 0


def domain_of(arguments: list[str]) -> str:
    """The registry that is meant: docker.io by default, a scheme and a path are taken off."""
    text = arguments[0] if arguments else reference.DEFAULT_DOMAIN
    domain = text.removeprefix("https://").removeprefix("http://").partition("/")[0]
    if domain in ("index.docker.io", "registry-1.docker.io"):
        return reference.DEFAULT_DOMAIN
    if not reference.is_domain(domain):
        raise UsageError(f"invalid registry: {text!r}", hint="name it as HOST or HOST:PORT")
    return domain


def _credentials(options: dict[str, Any], domain: str) -> Credentials:
    username, password = options["username"] or "", options["password"] or ""
    if options["password_stdin"]:
        if password:
            raise UsageError("--password and --password-stdin are mutually exclusive")
        if not username:
            raise UsageError("must provide --username with --password-stdin")
        password = sys.stdin.read(_MAX_PASSWORD).removesuffix("\n").removesuffix("\r")
    elif password:
        print(
            "WARNING! Using --password via the CLI is insecure. Use --password-stdin.",
            file=sys.stderr,
        )
    if not username and not password:
        known = credentials.lookup(domain, "")
        if known is not None:
            print("Authenticating with existing credentials...")
            return known
    if not (username and password) and not sys.stdin.isatty():
        raise UsageError(
            "cannot ask for a user name and a password: standard input is not a terminal",
            hint=f"rootless login -u NAME --password-stdin {domain} < FILE",
        )
    username = username or input("Username: ").strip()
    password = password or getpass.getpass("Password: ")
    if not username or not password:
        raise Invalid("a user name and a password are needed", hint="give both")
    return Credentials(username, password)
