"""HTTP and nothing else: parse, one transaction, answer. One file per resource."""
