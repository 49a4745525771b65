"""The process that holds the online keys, and what the others know of it.

The server's own processes never open a file of online keys: they send what is to be signed
over a Unix socket in the home, and get signatures back, or a refusal.

| module     | gives                                                                    |
|------------|--------------------------------------------------------------------------|
| `domain`   | what a signer does, and why it refuses                                    |
| `wire`     | the messages and their frames                                            |
| `memory`   | what was verified and signed before, durable                             |
| `vouching` | which role files are signed by enough of those who may; from the first root |
| `reading`  | what is to be signed, read strictly                                       |
| `desk`     | the rules: what is signed, with which key                                |
| `__main__` | the process                                                              |
| `remote`   | asks the process                                                         |
| `child`    | starts it and keeps it running                                           |
"""
