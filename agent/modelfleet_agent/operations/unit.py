"""The systemd unit of the agent, and its user.

The agent may write its own directory and nothing else. It stays root nowhere: the user
owns the directory, and applications that hold a slot in-process run as that user.
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from modelfleet_agent.operations.parser import NAME

WATCHDOG_S = 900  # hashing the active files may wait for a load

_UNIT = """\
[Unit]
Description=modelfleet agent: runs the models that its fleet wants here
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
WatchdogSec={watchdog}
ExecStart={command}
Restart=always
RestartSec=5
TimeoutStartSec=300
TimeoutStopSec=60
KillMode=mixed
OOMPolicy=continue
User={user}
Group={user}
{environment}StateDirectory={state}
StateDirectoryMode=0700
UMask=0077

NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
{devices}
ProtectProc=invisible
ProcSubset=all
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
# answers are real-time, of the lowest rank, for a second at most while a model is loaded
RestrictRealtime=no
LimitRTPRIO=1
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @obsolete
SystemCallErrorNumber=EPERM
{limits}
[Install]
WantedBy=multi-user.target
"""
_DEVICES = "# accelerators are devices: --accelerators was given\nPrivateDevices=no"


@dataclass(frozen=True)
class Unit:
    """What the unit says.

    Attributes:
        directory: The agent's, below /var/lib.
        user: That it runs as.
        arguments: More for `modelfleet-agent run`.
        accelerators: It may open devices.
        memory_mb: `MemoryMax` of agent and children together; None leaves it open.
        program: What starts the agent; this Python where it is empty.
        options_file: Variables for `arguments`; need not be there.
    """

    directory: Path
    user: str = NAME
    arguments: tuple[str, ...] = ()
    accelerators: bool = False
    memory_mb: int | None = None
    program: tuple[str, ...] = ()
    options_file: str = ""

    def text(self) -> str:
        """Return the unit."""
        python = (sys.executable, "-P", "-m", "modelfleet_agent")
        command = [*(self.program or python), "run", "--dir", str(self.directory)]
        return _UNIT.format(
            watchdog=WATCHDOG_S,
            command=" ".join([shlex.join(command), *map(_quote, self.arguments)]),
            user=self.user,
            environment=f"EnvironmentFile=-{self.options_file}\n" * bool(self.options_file),
            state=self.directory.relative_to("/var/lib"),
            devices=_DEVICES if self.accelerators else "PrivateDevices=yes",
            limits=f"MemoryMax={self.memory_mb}M\n" if self.memory_mb else "",
        )

    def sysusers(self) -> str:
        """Return the snippet that makes the user (`systemd-sysusers`)."""
        return f'u {self.user} - "modelfleet agent" {self.directory}\n'


def _quote(argument: str) -> str:
    """Quote for a shell, but for a variable that systemd itself splits into words."""
    return argument if argument.startswith("$") else shlex.quote(argument)
