"""The run machine: what may happen to a run, what each turn does, and what the model is shown."""
