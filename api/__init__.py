"""How you talk to it."""
