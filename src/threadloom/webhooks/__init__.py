"""Telling programs what happened, instead of letting them ask."""
