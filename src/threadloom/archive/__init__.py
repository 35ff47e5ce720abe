"""What people saved from an Assistants API, read from archives or another server; and the same, written. ADR 0024 has the format."""
