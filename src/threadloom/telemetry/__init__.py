"""What an operator sees: metrics, traces, logs. What is instrumented imports OpenTelemetry's API only; its SDK is loaded by the processes that serve and work (ADR 0022)."""
