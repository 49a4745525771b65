"""Rollouts: widening a release over a group, wave by wave, and taking it back."""
