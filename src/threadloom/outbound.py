"""An HTTP client for addresses that clients chose: it reaches public ones only."""
