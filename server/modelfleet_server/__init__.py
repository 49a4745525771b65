"""The modelfleet server: catalogue, trust, rollouts, compliance, console, command line."""
