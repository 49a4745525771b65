"""The modelfleet agent: verifies, installs, serves and reports models on a device."""
