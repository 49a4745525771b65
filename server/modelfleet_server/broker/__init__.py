"""An MQTT broker as a child process, or somebody else's, behind one small interface.

| module      | gives                                                                 |
|-------------|-----------------------------------------------------------------------|
| `choice`    | `open_broker("auto" | "embedded" | "mosquitto" | "mqtt://host:port")` |
| `address`   | `Address`, `read_address`                                             |
| `child`     | `ChildBroker`: start, watch, start again, stop                        |
| `embedded`, `mosquitto` | the configurations that are generated, and the command    |
| `outside`   | `OutsideBroker`: nothing to start, only to look for                   |
| `ports`     | free ports of the loopback address                                      |
| `probe`     | does something at this address speak MQTT 5?                          |
| `launch`    | what runs in the child; imports nothing of ours                       |

The broker is a cache: it may lose everything at any time, and `bridge` fills it again.
"""
