"""The log of every change: append-only, each entry chained to the one before."""
