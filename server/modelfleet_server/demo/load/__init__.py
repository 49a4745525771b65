"""A process of its own that asks every agent for answers, and says what came of it."""
