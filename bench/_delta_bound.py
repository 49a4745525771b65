"""The reference bound: an adaptive code length of what is left after a row scale.

A bound for this model of the residual, not a proof: symbols (sign, bit length, top 3 bits
below the leading one) in the context of the old exponent, Krichevsky-Trofimov counts, and
the rest of the bits raw; 4 bytes per row for its scale. Integers have one context. What is
not a matched tensor counts with its zstd-19 size.
"""

from math import lgamma, log
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from modelfleet_manifests.delta.matching import Pair, match_tensors
from modelfleet_manifests.delta.tensors import Kind, scan_model
from modelfleet_manifests.delta.wire import WireError

Array = NDArray[Any]
_LGAMMA = np.vectorize(lgamma, otypes=[float])


def bound_bytes(old: bytes, new: bytes) -> float:
    before, after = memoryview(old), memoryview(new)
    try:
        found = scan_model(before).tensors, scan_model(after).tensors
    except WireError:
        return float(len(zstandard.compress(new, 19)))
    bits = 0.0
    rest = bytearray()
    for pair in match_tensors(before, after, *found):
        if pair.equal:
            continue
        body = after[pair.new.offset : pair.new.offset + pair.new.length]
        retyped = pair.old is not None and pair.old.dtype != pair.new.dtype
        if pair.old is None or retyped or pair.new.element.width > 4:
            rest += body
            continue
        base = before[pair.old.offset : pair.old.offset + pair.old.length]
        bits += _tensor_bits(pair, base, body)
    return bits / 8 + len(zstandard.compress(bytes(rest), 19)) * bool(rest)


def _tensor_bits(pair: Pair, base: memoryview, body: memoryview) -> float:
    width, kind = pair.new.element
    old, new = np.frombuffer(base, f"<u{width}"), np.frombuffer(body, f"<u{width}")
    context = np.zeros(old.size, np.int64)
    side = 0.0
    if kind is Kind.FLOAT and pair.new.dtype in {1, 10}:
        rows = pair.new.shape[0] if len(pair.new.shape) > 1 else 1
        old = _scale(old, new, rows)
        mantissa = 23 if width == 4 else 10
        context = ((old >> mantissa) & (255 if width == 4 else 31)).astype(np.int64)
        side = 32.0 * rows
    left = (new - old).view(f"<i{width}").astype(np.int64)
    return side + _residual_bits(left, context)


def _scale(old: Array, new: Array, rows: int) -> Array:
    kind = np.float32 if old.itemsize == 4 else np.float16
    before = old.view(kind).astype(np.float64).reshape(rows, -1)
    with np.errstate(all="ignore"):
        ratio = new.view(kind).astype(np.float64).reshape(rows, -1) / before
        ratio[~np.isfinite(ratio)] = np.nan
        factors = np.ones(rows)
        known = ~np.isnan(ratio).all(1)
        factors[known] = np.nanmedian(ratio[known], axis=1)
        scaled = (before * factors.astype(np.float32)[:, None]).astype(kind)
    return np.ascontiguousarray(scaled).view(old.dtype).ravel()


def _residual_bits(left: Array, context: Array) -> float:
    size = np.abs(left)
    length = np.where(size > 0, np.frexp(size.astype(np.float64))[1], 0).astype(np.int64)
    low = np.maximum(length - 4, 0)
    symbols = (length * 8 + (size >> low) % 8) * 2 + (left < 0)
    return float(low.sum()) + _adaptive_bits(context, symbols)


def _adaptive_bits(context: Array, symbols: Array) -> float:
    used, symbols = np.unique(symbols, return_inverse=True)
    counts = np.bincount(context * used.size + symbols)
    counts = np.pad(counts, (0, -counts.size % used.size)).reshape(-1, used.size)
    counts = counts[counts.any(1)]
    totals = counts.sum(1)
    prior = 0.5
    spent = _LGAMMA(totals + prior * used.size).sum() - lgamma(prior * used.size) * len(
        counts
    )
    spent -= (_LGAMMA(counts + prior) - lgamma(prior)).sum()
    return float(spent) / log(2)
