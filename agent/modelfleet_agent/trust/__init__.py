"""What the device believes: a core that does no IO, in a throw-away child, behind one door.

| module       | gives                                                                     |
|--------------|---------------------------------------------------------------------------|
| `door`       | what the supervisor asks and believes; starts the child                   |
| `state`, `messages` | what is believed; what the child is asked, and answers; pure       |
| `timing`     | what time it is since this start                                          |
| `memory`     | floors and state on disk                                                  |
| `survey`     | the order of verification, from the first root to the state; pure         |
| `chain`      | python-tuf's judgement, groups and floors, role by role; pure             |
| `sight`, `floors` | what this refresh sees, against what was ever seen; pure             |
| `asking`, `tombstones` | time tokens and recalls, verified; pure                         |
| `checks`, `faults` | what python-tuf accepts and this agent does not; codes; pure        |
| `steps`      | what a walk asks for: read, keep, fetch, elapsed; pure                    |
| `shell`      | does that: files, HTTP                                                    |

The supervisor imports `door` and what it imports only; everything that imports `tuf` runs
in the child (`python -m modelfleet_agent.trust`). An import contract keeps IO out of what
is called pure here.
"""
