"""Models, their versions, and what became of each: variants, releases, channels, deltas.

| module      | gives                                                                 |
|-------------|-----------------------------------------------------------------------|
| `domain`    | the states of a version as a table; lineage                           |
| `tables`    | the rows                                                              |
| `versions`  | create a version, add its variants                                    |
| `lifecycle` | from built to proposed, released, revoked                             |
| `releases`  | what is signed, by name and by id                                     |
| `channels`  | movable names for versions, with their history                        |
| `deltas`    | which file can be made from which                                     |
| `service`   | all that other slices use, in one place                               |
| `workshop`  | what the catalog needs of `builds`, which lies above it               |
"""
