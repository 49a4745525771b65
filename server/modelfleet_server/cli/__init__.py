"""The commands of `modelfleet`."""
