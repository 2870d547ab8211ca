# SPDX-License-Identifier: Apache-2.0
"""Measurements beside other programs: `scripts/bench`. No test runs them; times judge nothing there."""
