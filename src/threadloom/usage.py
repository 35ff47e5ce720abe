"""What runs spent, written down in the transaction in which they end."""
