"""How a process is watched: its log lines, its numbers, its traces. It knows none of the rooms."""
