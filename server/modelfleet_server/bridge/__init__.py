"""The server's connection to the broker: what it publishes and what it hears.

Out: `outbox.put(session, topic, payload)` keeps the newest payload of each retained topic
in the database; a thread publishes it after the commit and marks it only when the broker
has acknowledged it. In: `Bridge.on(filter, handler)`; messages are handled in batches, one
write transaction each, and acknowledged to the broker after the commit.

| module      | gives                                                               |
|-------------|---------------------------------------------------------------------|
| `service`   | `Bridge`, `BridgeStatus`, `reply`                                   |
| `message`   | `Message`, `Handler`, `matches`                                     |
| `outbox`    | `put`, `again`, and what the publisher needs                        |
| `publisher` | the thread that empties the outbox, and the epoch                   |
| `ingest`    | the thread that handles what arrives                                |
| `epoch`     | what the broker says that it has                                    |
| `link`      | one connection, from CONNECT until it is lost                       |
| `wire`      | the network loop below it                                           |
| `bell`      | how a commit tells the publisher                                    |
| `tables`    | the rows                                                            |
"""
