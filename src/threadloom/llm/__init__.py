"""Language models behind one protocol: Chat Completions servers, the embedded demonstration, GGUF files."""
