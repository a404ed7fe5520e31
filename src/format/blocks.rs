//! Block formats: bytes of a row enter and `f32` weights leave, or the other way round.
//!
//! This is the CPU reference for every kernel that reads such blocks, so it is written to be read
//! against the layouts and not for speed. Results are bit for bit those of the `gguf` Python package,
//! which `tests/formats.rs` checks on fixtures. Like the rest of `format` it knows no GPU and no
//! files; whoever calls it knows which tensor the row is from, and says so in the message.
//!
//! All types store their scales as little-endian f16. The 32-wide types are here, the 256-wide
//! "K" types in `blocks/k.rs`.

mod k;

use half::{bf16, f16};

use super::Dtype;
use crate::error::{Error, Result};

/// Weights in a block of the types in this file.
const LEN: usize = 32;

/// Decodes a row: `bytes` are whole blocks of `dtype`, `out` takes as many weights as they hold.
///
/// # Errors
///
/// [`Error::Internal`] when the lengths do not belong together.
pub fn decode_row(dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> Result<()> {
    if dtype.row_bytes(out.len() as u64) != Some(bytes.len() as u64) {
        let (name, n_bytes, len) = (dtype.name(), bytes.len(), out.len());
        return Err(Error::Internal(format!("{n_bytes} bytes do not hold a row of {len} {name} weights")));
    }
    match dtype {
        Dtype::F32 => each(bytes, out, |bytes: &[u8; 4], [w]: &mut [f32; 1]| *w = f32::from_le_bytes(*bytes)),
        Dtype::F16 => each(bytes, out, |bytes: &[u8; 2], [w]: &mut [f32; 1]| *w = f16::from_le_bytes(*bytes).to_f32()),
        Dtype::BF16 => {
            each(bytes, out, |bytes: &[u8; 2], [w]: &mut [f32; 1]| *w = bf16::from_le_bytes(*bytes).to_f32());
        }
        Dtype::Q4_0 => each(bytes, out, decode_q4_0),
        Dtype::Q4_1 => each(bytes, out, decode_q4_1),
        Dtype::Q5_0 => each(bytes, out, decode_q5_0),
        Dtype::Q5_1 => each(bytes, out, decode_q5_1),
        Dtype::Q8_0 => each(bytes, out, decode_q8_0),
        Dtype::Q2K => each(bytes, out, k::decode_q2_k),
        Dtype::Q3K => each(bytes, out, k::decode_q3_k),
        Dtype::Q4K => each(bytes, out, k::decode_q4_k),
        Dtype::Q5K => each(bytes, out, k::decode_q5_k),
        Dtype::Q6K => each(bytes, out, k::decode_q6_k),
    }
    Ok(())
}

/// Encodes a row and appends its bytes to `out`.
///
/// `Q4_0`, `Q4_1`, `Q5_0` and `Q8_0` give the bytes that the `gguf` package does; for `Q4_K` and `Q6_K`, which it
/// does not encode, scales are searched for that make the squared error of each sub-block small.
///
/// # Errors
///
/// [`Error::UnsupportedModel`] for a type that has no encoder here, and [`Error::Corrupt`] for a
/// value that the type cannot hold: infinite, not a number (except in F32, F16, BF16, where both have
/// encodings), or so large that it would become infinite. [`Error::Internal`] when the row is not a
/// whole number of blocks. On an error `out` is as it was.
pub fn encode_row(dtype: Dtype, values: &[f32], out: &mut Vec<u8>) -> Result<()> {
    let before = out.len();
    let encoded = try_encode_row(dtype, values, out);
    if encoded.is_err() {
        out.truncate(before);
    }
    encoded
}

fn try_encode_row(dtype: Dtype, values: &[f32], out: &mut Vec<u8>) -> Result<()> {
    let name = dtype.name();
    if dtype.row_bytes(values.len() as u64).is_none() {
        let (len, block_len) = (values.len(), dtype.block_len());
        return Err(Error::Internal(format!(
            "a row of {len} weights is not a multiple of {name}'s block of {block_len}"
        )));
    }
    match dtype {
        Dtype::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        Dtype::F16 => {
            for value in values {
                let rounded = f16::from_f32(*value);
                check_rounded(name, *value, !rounded.is_finite())?;
                out.extend(rounded.to_le_bytes());
            }
        }
        Dtype::BF16 => {
            for value in values {
                let rounded = bf16::from_f32(*value);
                check_rounded(name, *value, !rounded.is_finite())?;
                out.extend(rounded.to_le_bytes());
            }
        }
        Dtype::Q4_0 => encode_blocks(name, values, out, encode_q4_0)?,
        Dtype::Q4_1 => encode_blocks(name, values, out, encode_q4_1)?,
        Dtype::Q5_0 => encode_blocks(name, values, out, encode_q5_0)?,
        Dtype::Q8_0 => encode_blocks(name, values, out, encode_q8_0)?,
        Dtype::Q4K => encode_blocks(name, values, out, k::encode_q4_k)?,
        Dtype::Q6K => encode_blocks(name, values, out, k::encode_q6_k)?,
        Dtype::Q5_1 | Dtype::Q2K | Dtype::Q3K | Dtype::Q5K => {
            return Err(Error::UnsupportedModel(format!(
                "quantising to {name} is not supported; F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q4_K and Q6_K are"
            )));
        }
    }
    Ok(())
}

/// Applies `encode` to each block of `LEN` weights, all of which must be finite.
fn encode_blocks<const LEN: usize>(
    name: &str,
    values: &[f32],
    out: &mut Vec<u8>,
    encode: impl Fn(&[f32; LEN], &mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    for block in values.as_chunks::<LEN>().0 {
        if let Some(bad) = block.iter().find(|value| !value.is_finite()) {
            return Err(Error::Corrupt(format!("the weight {bad} has no encoding in {name}")));
        }
        encode(block, out)?;
    }
    Ok(())
}

/// Applies `decode` to each block of `BYTES` bytes and the `LEN` weights it holds.
fn each<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    for (block, weights) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
        decode(block, weights);
    }
}

/// A scale from its two bytes.
fn scale(low: u8, high: u8) -> f32 {
    f16::from_le_bytes([low, high]).to_f32()
}

/// `d, qs[16]`: `w = d·(q − 8)`. Byte j holds weight j in its low half, weight j + 16 in its high.
fn decode_q4_0(block: &[u8; 18], out: &mut [f32; LEN]) {
    let [d0, d1, qs @ ..] = block;
    let d = scale(*d0, *d1);
    for (j, q) in qs.iter().enumerate() {
        out[j] = d * (f32::from(q & 15) - 8.0);
        out[j + 16] = d * (f32::from(q >> 4) - 8.0);
    }
}

/// `d, m, qs[16]`: `w = d·q + m`, nibbles as in `Q4_0`.
fn decode_q4_1(block: &[u8; 20], out: &mut [f32; LEN]) {
    let [d0, d1, m0, m1, qs @ ..] = block;
    let (d, m) = (scale(*d0, *d1), scale(*m0, *m1));
    for (j, q) in qs.iter().enumerate() {
        out[j] = d * f32::from(q & 15) + m;
        out[j + 16] = d * f32::from(q >> 4) + m;
    }
}

/// The 5-bit weights j and j + 16: nibbles as in `Q4_0`, the fifth bit of weight i is bit i of `qh`.
fn five_bits(qh: u32, nibbles: u8, j: usize) -> [f32; 2] {
    let low = (nibbles & 15) | ((qh >> j & 1) as u8) << 4;
    let high = (nibbles >> 4) | ((qh >> (j + 16) & 1) as u8) << 4;
    [f32::from(low), f32::from(high)]
}

/// `d, qh[4], qs[16]`: `w = d·(q − 16)`.
fn decode_q5_0(block: &[u8; 22], out: &mut [f32; LEN]) {
    let [d0, d1, h0, h1, h2, h3, qs @ ..] = block;
    let (d, qh) = (scale(*d0, *d1), u32::from_le_bytes([*h0, *h1, *h2, *h3]));
    for (j, nibbles) in qs.iter().enumerate() {
        let [low, high] = five_bits(qh, *nibbles, j);
        out[j] = d * (low - 16.0);
        out[j + 16] = d * (high - 16.0);
    }
}

/// `d, m, qh[4], qs[16]`: `w = d·q + m`.
fn decode_q5_1(block: &[u8; 24], out: &mut [f32; LEN]) {
    let [d0, d1, m0, m1, h0, h1, h2, h3, qs @ ..] = block;
    let (d, m) = (scale(*d0, *d1), scale(*m0, *m1));
    let qh = u32::from_le_bytes([*h0, *h1, *h2, *h3]);
    for (j, nibbles) in qs.iter().enumerate() {
        let [low, high] = five_bits(qh, *nibbles, j);
        out[j] = d * low + m;
        out[j + 16] = d * high + m;
    }
}

/// `d, q[32]` signed: `w = d·q`.
fn decode_q8_0(block: &[u8; 34], out: &mut [f32; LEN]) {
    let [d0, d1, qs @ ..] = block;
    let d = scale(*d0, *d1);
    for (w, q) in out.iter_mut().zip(qs) {
        *w = d * f32::from(q.cast_signed());
    }
}

/// A finite value must not become infinite: one such weight makes every logit NaN.
fn check_rounded(name: &str, value: f32, is_infinite: bool) -> Result<()> {
    if is_infinite && value.is_finite() {
        return Err(Error::Corrupt(format!("the weight {value} is too large for {name}")));
    }
    Ok(())
}

/// Appends a scale (or minimum) as f16, and gives what a decoder will read.
fn push_scale(name: &str, value: f32, out: &mut Vec<u8>) -> Result<f32> {
    let rounded = f16::from_f32(value);
    if !rounded.is_finite() {
        return Err(Error::Corrupt(format!("a block needs the scale {value}, too large for {name}'s f16")));
    }
    out.extend(rounded.to_le_bytes());
    Ok(rounded.to_f32())
}

/// `1/d`, and 0 for a block of zeros.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// Packs 32 numbers of 4 bits as `Q4_0` orders them. `as u8` truncates and saturates, so adding a half
/// before it rounds to nearest.
fn push_nibbles(block: &[f32; LEN], quantise: impl Fn(f32) -> f32, out: &mut Vec<u8>) {
    let q = |weight: f32| (quantise(weight) as u8).min(15);
    let (low, high) = block.split_at(16);
    out.extend(low.iter().zip(high).map(|(low, high)| q(*low) | q(*high) << 4));
}

/// The weight furthest from zero becomes −8 exactly: that side of the range has one more step.
fn encode_q4_0(block: &[f32; LEN], out: &mut Vec<u8>) -> Result<()> {
    // The first of equals, a zero's sign included, as in the reference.
    let furthest = block.iter().fold(block[0], |max, w| if w.abs() > max.abs() { *w } else { max });
    let d = furthest / -8.0;
    let id = inverse(d);
    push_scale("Q4_0", d, out)?;
    push_nibbles(block, |w| w * id + 8.5, out);
    Ok(())
}

/// The least weight becomes 0, the greatest 15.
fn encode_q4_1(block: &[f32; LEN], out: &mut Vec<u8>) -> Result<()> {
    let min = block.iter().fold(f32::INFINITY, |min, w| min.min(*w));
    let max = block.iter().fold(f32::NEG_INFINITY, |max, w| max.max(*w));
    let d = (max - min) / 15.0;
    let id = inverse(d);
    push_scale("Q4_1", d, out)?;
    push_scale("Q4_1", min, out)?;
    push_nibbles(block, |w| (w - min) * id + 0.5, out);
    Ok(())
}

/// As `Q4_0`, with −16.
fn encode_q5_0(block: &[f32; LEN], out: &mut Vec<u8>) -> Result<()> {
    let furthest = block.iter().fold(block[0], |max, w| if w.abs() > max.abs() { *w } else { max });
    let d = furthest / -16.0;
    let id = inverse(d);
    push_scale("Q5_0", d, out)?;
    let q = block.map(|w| ((w * id + 16.5) as u8).min(31));
    let qh = q.iter().rev().fold(0_u32, |bits, q| bits << 1 | u32::from(q >> 4));
    out.extend(qh.to_le_bytes());
    out.extend((0..16).map(|j| q[j] & 15 | (q[j + 16] & 15) << 4));
    Ok(())
}

/// The weight furthest from zero becomes ±127.
fn encode_q8_0(block: &[f32; LEN], out: &mut Vec<u8>) -> Result<()> {
    let furthest = block.iter().fold(0.0_f32, |max, w| max.max(w.abs()));
    let d = furthest / 127.0;
    let id = inverse(d);
    push_scale("Q8_0", d, out)?;
    out.extend(block.iter().map(|w| ((w * id).round() as i8).cast_unsigned()));
    Ok(())
}
