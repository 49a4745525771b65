"""Mosquitto as a child, with a generated configuration.

Access lists and TLS come with the trust issue; until then it listens on loopback only.
"""

import getpass
import os
import shutil
from pathlib import Path

from modelfleet_server.broker.address import Address
from modelfleet_server.broker.child import Command, Recipe, this_python

NAME = "mosquitto"
MAX_PAYLOAD = 256 * 1024

CONFIG = """\
# written at each start of the server
listener {address.port} {address.host}
allow_anonymous true
set_tcp_nodelay true

max_inflight_messages 1000
max_queued_messages 10000
message_size_limit {payload}

# a snapshot once a minute: what a crash loses in between is published again (topic epoch).
# autosave_on_changes would cost a snapshot per message
persistence true
persistence_location {folder}/
persistence_file mosquitto.db
autosave_interval 60

connection_messages false
log_dest stderr
log_type error
log_type warning
log_type notice
"""


class Mosquitto(Recipe):
    """How to run Mosquitto.

    Args:
        program: Absolute path of the executable.
    """

    name = NAME

    def __init__(self, program: Path) -> None:
        self.program = program

    def prepare(self, folder: Path, address: Address) -> Command:
        """Write the configuration and return the command."""
        config = folder / "mosquitto.conf"
        text = CONFIG.format(address=address, folder=folder, payload=MAX_PAYLOAD)
        if os.geteuid() == 0:
            # as another user it could not write into the home directory, and the kernel
            # forgets that it has to die with us
            text += f"user {getpass.getuser()}\n"
        config.write_text(text)
        return this_python("exec", str(self.program), "-c", str(config))


def find_program() -> Path | None:
    """Return the installed Mosquitto, None if there is none.

    Debian puts it into /usr/sbin, which the PATH of a normal user lacks.
    """
    found = shutil.which(NAME) or shutil.which(NAME, path="/usr/sbin:/usr/local/sbin")
    return None if found is None else Path(found).resolve()
