"""Devices: how they come into the fleet, which groups they are in, what they say."""
