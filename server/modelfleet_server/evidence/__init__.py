"""Evidence: why a device runs what it runs, explained by the resolver itself."""
