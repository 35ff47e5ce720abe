"""The life of data: backups, what is kept how long, and what must not be left over when something is deleted."""
