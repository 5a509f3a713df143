"""What is remembered: all SQL is here."""
