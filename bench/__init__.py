"""Benchmarks, each a command: `python -m bench.NAME`; `make bench` runs them all.

Speed and memory are compared side by side with a peer in one run and given as ratios. The
last line of each is one JSON object.
"""
