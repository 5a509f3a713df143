"""What happens: pure and deterministic."""
