# SPDX-License-Identifier: Apache-2.0
"""What the tests share: abilities of the host, root file systems of one program, the command line."""
