"""zstd frames without magic, whose size is known before they are opened."""

import functools
from typing import Final

import zstandard

_MIN_WINDOW: Final = 1 << 10
_MAX_WINDOW: Final = 8 << 20
"""Bytes. One-shot decoding needs no window buffer; this bounds what a frame may ask for."""


def _parameters(level: int, window_log: int) -> zstandard.ZstdCompressionParameters:
    return zstandard.ZstdCompressionParameters.from_level(
        level,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=1,
        write_checksum=0,
        write_dict_id=0,
        window_log=window_log,
    )


def window_log(size: int) -> int:
    """Return the smallest zstd window, as a power of two, that spans `size` bytes."""
    least, most = _MIN_WINDOW.bit_length() - 1, _MAX_WINDOW.bit_length() - 1
    return min(max((size - 1).bit_length(), least), most)


@functools.lru_cache(maxsize=64)
def _compressor(level: int, window: int) -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(compression_params=_parameters(level, window))


@functools.cache
def _literal_compressor(window: int) -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            1,
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
            write_content_size=1,
            write_checksum=0,
            write_dict_id=0,
            window_log=window,
            strategy=zstandard.STRATEGY_FAST,
            min_match=7,
            hash_log=6,
            target_length=0,
        )
    )


def pack_literals(data: bytes) -> bytes:
    """Return one frame of `data`, which is noise: Huffman codes, hardly any matches."""
    return _literal_compressor(window_log(len(data))).compress(data)


def pack(data: bytes | memoryview, *, level: int, base: bytes | None = None) -> bytes:
    """Return one frame of `data`, against `base` as raw dictionary where given."""
    window = window_log(len(data) + len(base or b""))
    if not base:
        return _compressor(level, window).compress(data)
    parameters = _parameters(level, window)
    dictionary = zstandard.ZstdCompressionDict(
        base, dict_type=zstandard.DICT_TYPE_RAWCONTENT
    )
    compressor = zstandard.ZstdCompressor(
        compression_params=parameters, dict_data=dictionary
    )
    return compressor.compress(data)


def unpack(frame: bytes | memoryview, size: int, *, base: bytes | None = None) -> bytes:
    """Return the `size` bytes of one frame; nothing larger is ever allocated.

    Raises:
        ValueError: The frame is damaged, or holds another number of bytes.
    """
    dictionary = (
        zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        if base
        else None
    )
    try:
        facts = zstandard.get_frame_parameters(frame, zstandard.FORMAT_ZSTD1_MAGICLESS)
        # the one-shot call allocates what the frame declares, so that is judged before
        if facts.content_size != size:
            raise ValueError(f"frame declares {facts.content_size} bytes, not {size}")
        data = zstandard.ZstdDecompressor(
            dict_data=dictionary,
            max_window_size=_MAX_WINDOW,
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        ).decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    if len(data) != size:
        raise ValueError(f"frame holds {len(data)} bytes, not {size}")
    return data
