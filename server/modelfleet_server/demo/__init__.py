"""The demonstration: the main job on real models, and the assets it needs."""
