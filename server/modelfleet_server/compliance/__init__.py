"""Compliance: which devices run what they must, computed from what they reported."""
