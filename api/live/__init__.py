"""Live inspection: what a run waits for, why it is where it is, and its changes as they happen."""
