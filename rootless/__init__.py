# SPDX-License-Identifier: Apache-2.0
"""rootless: a container runtime and engine for people without root."""

__version__ = "0.1.0"
