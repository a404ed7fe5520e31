#!/usr/bin/env python3
"""Writes the fixtures in blocks/: what `tests/formats.rs` checks the block decoders and encoders against.

    python3 -m venv /tmp/ggufvenv && /tmp/ggufvenv/bin/pip install gguf==0.19.0 numpy==2.4.6
    /tmp/ggufvenv/bin/python tests/data/make_blocks.py

Decoding, for every type T: T.blocks holds 3 rows x 512 weights of random but valid blocks, T.f32 the
weights that the `gguf` package reads from them. Row 0 has scales of a usual size, row 1 the extremes of
f16 (0, -0, subnormals, the largest, both signs), row 2 every quantum at every place: its bytes are all
zeros, all ones, or counting up.

Encoding, for the types this crate encodes: values.f32 holds 3 rows x 512 weights, T.encoded what the
`gguf` package makes of them. Row 0 is normal, row 1 has blocks of zeros, of a constant, with one outlier of
either sign, tiny and large; row 2 is full of ties (multiples of half a step).

All little-endian, rows one after another; 150 KB together.
"""

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

OUT = Path(__file__).parent / "blocks"
ROWS, COLS = 3, 512
rng = np.random.default_rng(20261124)

# Where a block keeps its f16 scales and minimums.
SCALES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
}
EXTREMES = np.array(
    [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00, 0xBC00, 0x3555, 0x1400], np.uint16
)


def finite_floats(kind: T) -> np.ndarray:
    """Random bit patterns of a floating-point type without infinities and NaN, extremes first."""
    if kind == T.F32:
        bits = rng.integers(0, 2**32, (ROWS, COLS), np.uint32)
        exponent, edges = 0x7F800000, [0, 1 << 31, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF]
    elif kind == T.F16:
        bits = rng.integers(0, 2**16, (ROWS, COLS), np.uint16)
        exponent, edges = 0x7C00, EXTREMES
    else:
        bits = rng.integers(0, 2**16, (ROWS, COLS), np.uint16)
        exponent, edges = 0x7F80, [0, 0x8000, 1, 0x007F, 0x0080, 0x7F7F, 0xFF7F]
    bits[(bits & exponent) == exponent] = 0
    bits[0, : len(edges)] = edges
    return bits.view(np.uint8).reshape(ROWS, -1)


def blocks(kind: T) -> np.ndarray:
    """Random blocks of a quantised type, shape [rows, bytes]."""
    block_len, block_bytes = GGML_QUANT_SIZES[kind]
    n = COLS // block_len
    raw = rng.integers(0, 256, (ROWS, n, block_bytes), np.uint8)
    raw[2, 0] = 0x00
    raw[2, 1] = 0xFF
    if n > 2:
        raw[2, 2] = np.arange(block_bytes, dtype=np.uint8) * 17
    for place, at in enumerate(SCALES[kind]):
        usual = rng.normal(0, 0.02, (ROWS, n)).astype(np.float16)
        usual[1] = EXTREMES[(np.arange(n) * 5 + place * 3 + (n == 2) * 6) % len(EXTREMES)].view(np.float16)
        usual[2, 0] = np.float16(1.0)
        raw[:, :, at : at + 2] = usual.view(np.uint8).reshape(ROWS, n, 2)
    return raw.reshape(ROWS, -1)


def values() -> np.ndarray:
    rows = rng.normal(0, 0.05, (ROWS, COLS)).astype(np.float32)
    edge = rows[1].reshape(-1, 32)
    edge[0] = 0
    edge[1] = 0.25
    edge[2] = -0.25
    edge[3, 7] = 100.0
    edge[4, 7] = -100.0
    edge[5] *= np.float32(1e-7)
    edge[6] *= np.float32(1e5)
    edge[7, :16] = np.abs(edge[7, :16])
    edge[8] = np.abs(edge[8])
    edge[9] = -np.abs(edge[9])
    edge[10, [3, 21]] = [1.0, -1.0]
    edge[11, [3, 21]] = [-1.0, 1.0]
    edge[12] *= np.float32(1e-30)  # the scale vanishes in f16
    edge[13] = np.float32(-0.0)
    steps = rng.integers(-16, 17, (COLS // 32, 32)).astype(np.float32)
    steps[:, 0] = -16
    rows[2] = (steps * np.float32(0.5) * np.float32(2.0**-6)).reshape(-1)
    return rows


def main() -> None:
    OUT.mkdir(exist_ok=True)
    for kind in [T.F32, T.F16, T.BF16, *SCALES]:
        raw = finite_floats(kind) if kind in (T.F32, T.F16, T.BF16) else blocks(kind)
        weights = dequantize(raw, kind).reshape(ROWS, COLS)
        assert weights.dtype == np.float32 and np.isfinite(weights).all(), kind
        (OUT / f"{kind.name}.blocks").write_bytes(raw.tobytes())
        (OUT / f"{kind.name}.f32").write_bytes(weights.tobytes())
    rows = values()
    (OUT / "values.f32").write_bytes(rows.tobytes())
    for kind in [T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0]:
        (OUT / f"{kind.name}.encoded").write_bytes(quantize(rows, kind).tobytes())


if __name__ == "__main__":
    main()
