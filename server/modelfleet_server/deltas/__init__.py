"""Deltas: which are worth making for the files that devices run, and who needs them still.

| module    | gives                                                                    |
|-----------|--------------------------------------------------------------------------|
| `domain`  | a delta's life as a table; what is chosen for a budget; what is swept    |
| `tables`, `store` | pairs of files that were considered, and what devices run        |
| `service` | plans asked for, results written down, sweeping                          |
| `planner` | the job: ask, weigh, choose, make in batches                             |

A file that is packed (a delta from the empty file) belongs to its variant and is made by
`builds`; here it is the yardstick: a delta that is no smaller is dropped for good.
"""
