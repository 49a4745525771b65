"""Configuration of one agent, all in one place; every part gets what it needs from here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelfleet_agent.settings.link import LinkSettings, SwitchSettings
from modelfleet_agent.settings.outbox import OutboxSettings


@dataclass(frozen=True)
class RuntimeSettings:
    """The runtime child and its endpoint.

    Attributes:
        port: Loopback TCP port; 0 picks a free one, None opens none.
        socket: Unix socket, at most 100 bytes long; None opens none.
        socket_mode: Permissions of the socket.
        workers: Threads that run requests.
        threads: Threads inside one session (`intra_op`).
        slot_threads: The same, of slots that want others.
        queue: Requests that may wait; beyond that the answer is 503.
        body_mb: Largest request body, in MiB.
        memory_mb: Address space of the child in MiB; None leaves it open.
        nice: Niceness of the child.
        request_s: Longest that one run of a model may take, in seconds.
        remembered: Answers that still wait for a label.
        local_control: Local clients may unload a slot: it answers 404 until they load it.
    """

    port: int | None = 0
    socket: Path | None = None
    socket_mode: int = 0o660
    workers: int = 2
    threads: int = 1
    slot_threads: Mapping[str, int] = field(default_factory=dict)
    queue: int = 64
    body_mb: int = 64
    memory_mb: int | None = None
    nice: int = 0
    request_s: float = 30.0
    remembered: int = 4096
    local_control: bool = False

    def threads_of(self, slot: str) -> int:
        """Return the threads inside one session of `slot`."""
        return self.slot_threads.get(slot, self.threads)

    @property
    def is_single(self) -> bool:
        """Every session runs in the thread that asks it."""
        return {self.threads, *self.slot_threads.values()} == {1}


@dataclass(frozen=True)
class AgentSettings:
    """One agent.

    Attributes:
        dir: Its private directory (design: on disk).
        runtime: The runtime child.
        disk_budget_mb: What store and incoming may take together.
        disk_reserve_mb: What stays free on the file system.
        declared_facts: Facts that replace the probed ones; facts then say `declared`.
        report_interval_s: The longest between two reports while the server is heard.
        verify_interval_s: How often the active files are read again.
        telemetry_interval_s: How long one batch of telemetry counts.
        reference_interval_s: How often a reference device asks for something to evaluate.
        link: How the network may be used (`file.read_settings`).
        switch: When a new release may be put into service.
        outbox: What waits for the server.
        prepares: Graphs for the CPU are optimised for this very processor.
    """

    dir: Path
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    disk_budget_mb: int = 4096
    disk_reserve_mb: int = 64
    declared_facts: Mapping[str, object] = field(default_factory=dict)
    report_interval_s: float = 60
    verify_interval_s: float = 60
    telemetry_interval_s: float = 10
    reference_interval_s: float = 30
    link: LinkSettings = field(default_factory=LinkSettings)
    switch: SwitchSettings = field(default_factory=SwitchSettings)
    outbox: OutboxSettings = field(default_factory=OutboxSettings)
    prepares: bool = False
