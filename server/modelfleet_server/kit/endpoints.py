"""Where this server can be reached; a part, set before anything is served."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Endpoints:
    """What devices and commands are told.

    Attributes:
        url: HTTP, without a slash at the end.
        mqtt_host: Of the broker.
        mqtt_port: Of the broker.
    """

    url: str
    mqtt_host: str
    mqtt_port: int
