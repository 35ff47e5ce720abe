"""One file per command: it takes Settings and hands them down."""
