//! The "K" types: 256 weights a block, in sub-blocks whose small integer scales multiply one or two
//! f16 scales. A block's bytes enter, its weights leave.
//!
//! Weights that share a byte are not neighbours but 32 apart, so that a SIMD lane unpacks them with
//! one shift: the inner loops below run over `l` = 0..32 within such a group.

use super::scale;

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
/// in Q2_K, and its third as bit i / 32 of `hmask[i % 32]`.
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

/// The 6-bit scale and minimum of sub-block `j` of 8, for Q4_K and Q5_K: the first four lie in the low
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

/// `d, dmin, scales[12], qh[32], qs[128]`: as Q4_K, with the fifth bit of weight l of sub-block j in
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
