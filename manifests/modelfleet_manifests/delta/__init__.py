"""Patches that know tensors: the bytes that turn one model file into another.

The only part of `modelfleet_manifests` that imports numpy; import it where models are
patched, not in the supervisor.
"""

from .applying import apply
from .encoding import encode, encode_chunks, estimate
from .errors import (
    BrokenPatchError,
    DeltaError,
    UnknownPatchError,
    WrongBaseError,
    WrongResultError,
    WrongTargetError,
)
from .inspection import Inspection, Part, inspect
from .planning import SideTensors
from .tensors import Tensor, scan_model, scan_names, scan_side_files
from .wire import WireError

__all__ = [
    "BrokenPatchError",
    "DeltaError",
    "Inspection",
    "Part",
    "SideTensors",
    "Tensor",
    "UnknownPatchError",
    "WireError",
    "WrongBaseError",
    "WrongResultError",
    "WrongTargetError",
    "apply",
    "encode",
    "encode_chunks",
    "estimate",
    "inspect",
    "scan_model",
    "scan_names",
    "scan_side_files",
]
