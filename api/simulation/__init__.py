"""Simulated runs: played on Temporal with skipped time, told as the mirror would tell them."""
