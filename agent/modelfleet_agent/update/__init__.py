"""How one slot gets from what it runs to what it is to run, and back.

`phases` says which effect each phase owes, `engine` journals a phase and then runs its
effect, `effects` are the work, `state` is what a slot remembers, `policy` says how long to
wait.
"""
