"""The commands of `modelfleet`, a module for each subject; `main` runs one.

| module     | gives                                                              |
|------------|--------------------------------------------------------------------|
| `root`     | all of them together; errors become words and exit codes           |
| `run`      | what every command shares: `--json`, `--server`, `--token`         |
| `screen`   | JSON or tables, progress, questions                                |
| `client`   | the server's API                                                   |
| `account`  | which server, as whom; the stored login                            |
| `exits`    | exit codes                                                         |
"""

from modelfleet_server.cli.root import main

__all__ = ["main"]
