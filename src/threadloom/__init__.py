"""Threadloom: a self-hosted server that speaks OpenAI's Assistants API (v2)."""

__version__ = "0.1.0"
