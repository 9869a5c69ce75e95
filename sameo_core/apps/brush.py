"""Label Studio's run-length encoding of brush masks.

A bit stream, packed into bytes, of an RGBA picture in row order whose four channels are all 0 or all 255.
Header: number of values (32 bits), bits per value - 1 (5), four sizes of run lengths - 1 (4 bits each). Per run: a 1,
the index of its size (2 bits), its length - 1, the value. A 0 in place of the 1: that many values follow one by one.
Source: `brush.py` of Label Studio's converter, which reads this; its package would be a heavy dependency.
"""

from collections.abc import Sequence

import numpy as np

from sameo_core.arrays import AmodalMask

RUN_BITS = (3, 4, 8, 16)  # sizes of run lengths


def encode_brush(mask: AmodalMask) -> list[int]:
    """A mask as the bytes of the stream."""
    flat = mask.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    bits = [f"{4 * flat.size:032b}", f"{8 - 1:05b}", *(f"{size - 1:04b}" for size in RUN_BITS)]
    for end, length in zip(ends, 4 * np.diff(ends, prepend=0), strict=True):
        value = "11111111" if flat[end - 1] else "00000000"
        while length > 0:
            run = min(int(length), 2 ** RUN_BITS[-1])
            which = next(i for i, size in enumerate(RUN_BITS) if run <= 2**size)
            bits.append(f"1{which:02b}{run - 1:0{RUN_BITS[which]}b}{value}")
            length -= run
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 8)
    return list(int(stream, 2).to_bytes(len(stream) // 8, "big"))


def decode_brush(rle: Sequence[int], height: int, width: int) -> AmodalMask:
    """The mask of a stream: all pixels that are not transparent.

    Raises:
        ValueError: the stream ends too early, or is of a picture of another size.
    """
    stream, place = "".join(f"{byte:08b}" for byte in bytes(rle)), 0

    def read(bits: int) -> int:
        nonlocal place
        place += bits
        if place > len(stream):
            raise ValueError("brush RLE is damaged: it ends before the picture is full")
        return int(stream[place - bits : place], 2)

    count, value_bits = read(32), read(5) + 1
    if count != 4 * height * width:
        raise ValueError(f"brush RLE of {count} values, the picture {width} x {height} has {4 * height * width}")
    run_bits = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    lengths: list[int] = []
    done = 0
    while done < count:
        repeated, length = read(1), read(run_bits[read(2)]) + 1
        values += [read(value_bits) for _ in range(1 if repeated else length)]
        lengths += [length] if repeated else [1] * length
        done += length
    pixels = np.repeat(np.minimum(values, 255).astype(np.uint8), lengths)
    return pixels.reshape(height, width, 4)[..., 3] > 0
