"""What the device believes: python-tuf in a throw-away child, behind one door.

The supervisor imports `state` and `door` only; everything that imports `tuf` runs in the
child (`python -m modelfleet_agent.trust`).
"""
