"""The runtime child and its supervisor side.

The supervisor imports `client`, `limits`, `selftest`, `patch` and `messages`: none of them
imports numpy or ONNX Runtime. Everything else here runs in child processes only.
"""
