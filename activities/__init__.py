"""What it does to the world: one file per effect."""
