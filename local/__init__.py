"""What one machine runs: PostgreSQL, Temporal, the mail catcher and their supervisor."""
