"""Which derived file a release wants on this device, if any."""

from functools import cache

from modelfleet_agent.facts import cpu_model
from modelfleet_agent.runtime.providers import CPU, PROVIDERS, arrange, deriving
from modelfleet_agent.store import Record
from modelfleet_agent.store.derived import Derivation
from modelfleet_manifests.profiles import Facts


def wanted_derivation(
    record: Record, facts: Facts | None, *, prepares: bool
) -> Derivation | None:
    """Return all that decides what is made of `record`; None where it is loaded as it is.

    Args:
        record: The release.
        facts: What this device is; None while that is not known.
        prepares: Graphs for the CPU are optimised for this processor.
    """
    provider = deriving(record.providers) or (CPU if prepares else None)
    if provider is None or facts is None or not facts.runtime:
        return None
    if provider == CPU and (record.providers or len(record.files) > 1):
        # an accelerator wants the graph as it is; weights that are mapped would be
        # copied into the derived file, and read again instead
        return None
    options = dict(arrange((provider,), threads=1, derived=True)[0][1])
    gpu = PROVIDERS[provider].gpu
    return Derivation(
        provider=provider,
        options=options,
        sources=tuple(entry.digest for entry in record.files),
        runtime=facts.runtime,
        libraries=tuple(facts.libraries) if gpu else (),
        compute=facts.compute if gpu else "",
        cpu="" if gpu else _cpu(),
    )


@cache
def _cpu() -> str:
    return cpu_model()
