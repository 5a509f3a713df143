"""Schema changes, applied in order by db/migrate.py."""
