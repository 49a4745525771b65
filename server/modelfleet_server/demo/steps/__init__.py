"""The seven steps of the main job; each takes the `Play` and raises `PromiseError`."""
