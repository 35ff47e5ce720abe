"""State: rows, transactions on threads of their own, wake-ups, migrations. The only place that knows the dialect."""
