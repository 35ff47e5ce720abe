"""What happens when processes die, stop, race or are told to go: with real processes and real signals."""
