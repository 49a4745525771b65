"""Telemetry: what devices counted, and the sums and percentiles that follow."""
