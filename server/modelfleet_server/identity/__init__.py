"""Users, their roles, and the tokens that stand for them."""
