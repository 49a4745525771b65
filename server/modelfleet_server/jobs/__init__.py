"""Work that outlives a process: asked for as a row, done in steps, each done once.

Who wants work done calls `service.submit` in its own transaction: the job is asked for if
and only if that transaction commits. Who knows how puts a `Kind` into `Kinds`; an `Engine`
in each worker process takes jobs and runs them. A step that ended is never done again,
whichever process was killed meanwhile.

| module    | gives                                                                    |
|-----------|--------------------------------------------------------------------------|
| `errors`  | why a job was refused, failed or stopped                                 |
| `domain`  | a job's life as a table, whose turn it is, who is dead                   |
| `tables`, `service`, `executors` | jobs and processes as rows: the truth that people see |
| `kinds`   | what a kind of job does, and what follows from its end                   |
| `run`     | what the work of a job gets: payload, steps, progress, stop              |
| `performing` | one run, from taking the row to writing down how it ended             |
| `engine`  | takes jobs in one process: heartbeat, handing over, reaping, retention   |
| `locks`   | a lock file per process: on its own machine its end is known at once     |
| `durable` | the only module that knows DBOS: its queue, its step results             |
| `api`     | routes                                                                   |
"""
