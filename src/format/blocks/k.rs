//! The "K" types: 256 weights a block, in sub-blocks whose small integer scales multiply one or two
//! f16 scales. A block's bytes enter, its weights leave, and for two of the types the other way round.
//!
//! Weights that share a byte are not neighbours but 32 apart, so that a SIMD lane unpacks them with
//! one shift: the inner loops below run over `l` = 0..32 within such a group.

use super::{inverse, push_scale, scale};
use crate::error::Result;

/// Weights in a block.
const LEN: usize = 256;

/// `scales[16], qs[64], d, dmin`: `w = d·sc·q − dmin·m` with `sc` the low and `m` the high half of the
/// scale of each 16 weights. In the half h of the block, bits 2s and 2s + 1 of `qs[32h + l]` are
/// weight 128h + 32s + l.
pub(super) fn decode_q2_k(block: &[u8; 84], out: &mut [f32; LEN]) {
    let (scales, rest) = block.split_at(16);
    let (qs, scale_bytes) = rest.split_at(64);
    let d = scale(scale_bytes[0], scale_bytes[1]);
    let dmin = scale(scale_bytes[2], scale_bytes[3]);
    for (i, w) in out.iter_mut().enumerate() {
        let (half, shift, l) = (i / 128, i % 128 / 32 * 2, i % 32);
        let q = qs[half * 32 + l] >> shift & 3;
        let sc = scales[i / 16];
        *w = d * f32::from(sc & 15) * f32::from(q) - dmin * f32::from(sc >> 4);
    }
}

/// `hmask[32], qs[64], scales[12], d`: `w = d·(sc − 32)·(q − 4)`, q having its low two bits in `qs` as
/// in `Q2_K`, and its third as bit i / 32 of `hmask[i % 32]`.
pub(super) fn decode_q3_k(block: &[u8; 110], out: &mut [f32; LEN]) {
    let (hmask, rest) = block.split_at(32);
    let (qs, rest) = rest.split_at(64);
    let (scales, scale_bytes) = rest.split_at(12);
    let d = scale(scale_bytes[0], scale_bytes[1]);
    for (i, w) in out.iter_mut().enumerate() {
        let (half, shift, l) = (i / 128, i % 128 / 32 * 2, i % 32);
        let low = qs[half * 32 + l] >> shift & 3;
        let high = hmask[l] >> (i / 32) & 1;
        let q = f32::from(low | high << 2) - 4.0;
        *w = d * (f32::from(q3_k_scale(scales, i / 16)) - 32.0) * q;
    }
}

/// The 6-bit scale of sub-block `j` of 16: bytes 0..8 hold the low four bits of scales 0..8 in their
/// low halves and of 8..16 in their high halves, bytes 8..12 the upper two bits, of scales
/// t, t + 4, t + 8 and t + 12 in byte 8 + t.
fn q3_k_scale(scales: &[u8], j: usize) -> u8 {
    let low = scales[j % 8] >> (j / 8 * 4) & 15;
    let high = scales[8 + j % 4] >> (j / 4 * 2) & 3;
    low | high << 4
}

/// The 6-bit scale and minimum of sub-block `j` of 8, for `Q4_K` and `Q5_K`: the first four lie in the low
/// six bits of bytes j and j + 4; the last four have their low bits in byte j + 4 (scale in its low
/// half, minimum in its high) and their upper two in the top bits of bytes j − 4 and j.
fn scale_and_min(scales: &[u8], j: usize) -> (f32, f32) {
    let (sc, m) = if j < 4 {
        (scales[j] & 63, scales[j + 4] & 63)
    } else {
        (scales[j + 4] & 15 | scales[j - 4] >> 6 << 4, scales[j + 4] >> 4 | scales[j] >> 6 << 4)
    };
    (f32::from(sc), f32::from(m))
}

/// `d, dmin, scales[12], qs[128]`: `w = d·sc·q − dmin·m`. In the 32 bytes c of `qs`, low halves are
/// sub-block 2c and high halves sub-block 2c + 1.
pub(super) fn decode_q4_k(block: &[u8; 144], out: &mut [f32; LEN]) {
    let [d0, d1, m0, m1, rest @ ..] = block;
    let (d, dmin) = (scale(*d0, *d1), scale(*m0, *m1));
    let (scales, qs) = rest.split_at(12);
    for (j, weights) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (sc, m) = scale_and_min(scales, j);
        let (d, m) = (d * sc, dmin * m);
        for (l, w) in weights.iter_mut().enumerate() {
            let q = qs[j / 2 * 32 + l] >> (j % 2 * 4) & 15;
            *w = d * f32::from(q) - m;
        }
    }
}

/// `d, dmin, scales[12], qh[32], qs[128]`: as `Q4_K`, with the fifth bit of weight l of sub-block j in
/// bit j of `qh[l]`.
pub(super) fn decode_q5_k(block: &[u8; 176], out: &mut [f32; LEN]) {
    let [d0, d1, m0, m1, rest @ ..] = block;
    let (d, dmin) = (scale(*d0, *d1), scale(*m0, *m1));
    let (scales, rest) = rest.split_at(12);
    let (qh, qs) = rest.split_at(32);
    for (j, weights) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (sc, m) = scale_and_min(scales, j);
        let (d, m) = (d * sc, dmin * m);
        for (l, w) in weights.iter_mut().enumerate() {
            let low = qs[j / 2 * 32 + l] >> (j % 2 * 4) & 15;
            let high = qh[l] >> j & 1;
            *w = d * f32::from(low | high << 4) - m;
        }
    }
}

/// `ql[128], qh[64], sc[16]` signed, `d`: `w = d·sc·(q − 32)`. In the half h of the block, the group
/// g = 0..4 of 32 weights has its low four bits in `ql[64h + 32(g % 2) + l]`, low halves for g < 2, and
/// its upper two in bits 2g and 2g + 1 of `qh[32h + l]`.
pub(super) fn decode_q6_k(block: &[u8; 210], out: &mut [f32; LEN]) {
    let (ql, rest) = block.split_at(128);
    let (qh, rest) = rest.split_at(64);
    let (scales, scale_bytes) = rest.split_at(16);
    let d = scale(scale_bytes[0], scale_bytes[1]);
    for (i, w) in out.iter_mut().enumerate() {
        let (half, group, l) = (i / 128, i % 128 / 32, i % 32);
        let low = ql[half * 64 + group % 2 * 32 + l] >> (group / 2 * 4) & 15;
        let high = qh[half * 32 + l] >> (group * 2) & 3;
        let q = f32::from(low | high << 4) - 32.0;
        *w = d * f32::from(scales[i / 16].cast_signed()) * q;
    }
}

/// Candidates for a scale that each sub-block tries: quanta spread over the range of its weights, and over
/// ranges up to 7% (`Q4_K`) or 3% (`Q6_K`) wider or narrower. Clipping the outermost weight often pays.
const N_CANDIDATES: u8 = 21;

/// The inverse step of candidate `i` where `levels` steps span `range`: 1 quantum more or less, by tenths.
fn candidate(i: u8, levels: f32, range: f32) -> f32 {
    (levels - 1.0 + 0.1 * f32::from(i)) / range
}

/// The quantum of `value` steps, 0 to `max`. Rounds to nearest; the cast truncates and saturates.
fn quantum(value: f32, max: u8) -> u8 {
    ((value + 0.5) as u8).min(max)
}

/// [`quantum`] for the search, where most of the time goes: no cast, so that the compiler can use vectors.
/// Adding 1.5 · 2^23 leaves no bits for a fraction; ties go to even, which the search does not mind.
fn quantum_f32(value: f32, max: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    ((value.clamp(0.0, max) + SHIFT) - SHIFT).min(max)
}

/// `Σ a·b`, in eight partial sums for the same reason.
fn dot<const N: usize>(a: &[f32; N], b: &[f32; N]) -> f32 {
    let mut sums = [0.0; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

/// See [`decode_q4_k`] for the layout.
pub(super) fn encode_q4_k(block: &[f32; LEN], out: &mut Vec<u8>) -> Result<()> {
    let fits: Vec<(f32, f32)> = block.as_chunks::<32>().0.iter().map(fit_scale_and_min).collect();
    let greatest = |of: fn(&(f32, f32)) -> f32| fits.iter().map(of).fold(0.0, f32::max);
    let d = push_scale("Q4_K", greatest(|fit| fit.0) / 63.0, out)?;
    let dmin = push_scale("Q4_K", greatest(|fit| fit.1) / 63.0, out)?;

    let (id, idmin) = (inverse(d), inverse(dmin));
    let small: Vec<(u8, u8)> = fits.iter().map(|(sc, m)| (quantum(sc * id, 63), quantum(m * idmin, 63))).collect();
    let (first, last) = small.split_at(4);
    // The inverse of `scale_and_min`.
    out.extend(first.iter().zip(last).map(|((sc, _), (sc4, _))| sc | sc4 >> 4 << 6));
    out.extend(first.iter().zip(last).map(|((_, m), (_, m4))| m | m4 >> 4 << 6));
    out.extend(last.iter().map(|(sc4, m4)| sc4 & 15 | (m4 & 15) << 4));

    // What the decoder will multiply by is known only now: quantise against that.
    let quanta = |j: usize| {
        let (sc, m) = small[j];
        let (step, min) = (inverse(d * f32::from(sc)), dmin * f32::from(m));
        block[j * 32..][..32].iter().map(move |w| quantum((w + min) * step, 15))
    };
    for pair in 0..4 {
        out.extend(quanta(2 * pair).zip(quanta(2 * pair + 1)).map(|(low, high)| low | high << 4));
    }
    Ok(())
}

/// The scale and the minimum (both at least 0) with which `scale·q − min`, q = 0..15, is close to the weights.
fn fit_scale_and_min(weights: &[f32; 32]) -> (f32, f32) {
    let low = weights.iter().fold(0.0_f32, |low, w| low.min(*w));
    let high = weights.iter().fold(f32::NEG_INFINITY, |high, w| high.max(*w));
    if high <= low {
        return (0.0, -low); // all the same
    }
    let ones = [1.0; 32];
    let (n, sum) = (32.0, dot(weights, &ones));
    let mut best = ((high - low) / 15.0, -low);
    let mut least = f32::INFINITY;
    for i in 0..N_CANDIDATES {
        let step = candidate(i, 15.0, high - low);
        let q = weights.map(|w| quantum_f32((w - low) * step, 15.0));
        // Least squares of w = scale·q + offset.
        let (sum_q, qq, wq) = (dot(&q, &ones), dot(&q, &q), dot(weights, &q));
        let determinant = n * qq - sum_q * sum_q;
        let mut scale = (n * wq - sum * sum_q) / determinant;
        let mut offset = (qq * sum - sum_q * wq) / determinant;
        if offset > 0.0 {
            (scale, offset) = (wq / qq, 0.0);
        }
        let mut residual = q;
        for (residual, w) in residual.iter_mut().zip(weights) {
            *residual = scale * *residual + offset - w;
        }
        let error = dot(&residual, &residual);
        // False for NaN as well: weights near the end of f32 keep the first fit, which is refused as too large.
        if error < least && scale > 0.0 {
            (best, least) = ((scale, -offset), error);
        }
    }
    best
}

/// See [`decode_q6_k`] for the layout.
pub(super) fn encode_q6_k(block: &[f32; LEN], out: &mut Vec<u8>) -> Result<()> {
    let fits: Vec<f32> = block.as_chunks::<16>().0.iter().map(fit_scale).collect();
    let furthest = fits.iter().fold(0.0_f32, |max, fit| if fit.abs() > max.abs() { *fit } else { max });
    let mut tail = Vec::new(); // d comes last, but is needed first
    let d = push_scale("Q6_K", furthest / -128.0, &mut tail)?;
    let id = inverse(d);
    let scales: Vec<i8> = fits.iter().map(|fit| (fit * id).round() as i8).collect();

    let q = |i: usize| quantum(block[i] * inverse(d * f32::from(scales[i / 16])) + 32.0, 63);
    for half in [0, 128] {
        out.extend((half..half + 64).map(|i| q(i) & 15 | q(i + 64) << 4));
    }
    for half in [0, 128] {
        out.extend(
            (half..half + 32).map(|i| q(i) >> 4 | q(i + 32) >> 4 << 2 | q(i + 64) >> 4 << 4 | q(i + 96) >> 4 << 6),
        );
    }
    out.extend(scales.iter().map(|sc| sc.cast_unsigned()));
    out.append(&mut tail);
    Ok(())
}

/// The scale of either sign with which `scale·q`, q = −32..31, is close to the weights.
fn fit_scale(weights: &[f32; 16]) -> f32 {
    let furthest = weights.iter().fold(0.0_f32, |max, w| if w.abs() > max.abs() { *w } else { max });
    let mut best = furthest / -32.0;
    let mut most = 0.0;
    if best == 0.0 {
        return best;
    }
    for i in 0..N_CANDIDATES {
        let step = candidate(i, 32.0, -furthest);
        let q = weights.map(|w| quantum_f32(w * step + 32.0, 63.0) - 32.0);
        let (wq, qq) = (dot(weights, &q), dot(&q, &q));
        // The best scale for these quanta, Σwq / Σqq, lowers the squared error by this. False for NaN too.
        let gain = wq * wq / qq;
        if gain > most {
            (best, most) = (wq / qq, gain);
        }
    }
    best
}
