"""Temporal history, projected into rows."""
