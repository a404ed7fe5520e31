//! File rows enter, rows in the device's layout leave: two planes of whole words, `quants` and `aux`.
//!
//! The kernels read a row in chunks of 32 weights, with 16-byte loads from `quants` and single words from
//! `aux` (scales, and what bits do not fit). A 4-bit number's neighbours in a word are its neighbours in the
//! row, so that one mask and three shifts unpack four. The layout of each type is described where it is read,
//! in `shaders/shared/<dtype>.wgsl`; nothing is lost, and at most 2% is added (`Q3_K`: 112 bytes for 110).

use super::Dtype;

/// Weights in a chunk.
pub const CHUNK: usize = 32;

/// How rows of one type and length lie on the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The type of the weights.
    pub dtype: Dtype,
    /// Chunks in a row. Rows of floats are padded with zeros to whole chunks.
    pub n_chunks: usize,
}

impl Layout {
    /// The layout for rows of `cols` weights, which must be whole blocks of `dtype`.
    #[must_use]
    pub fn new(dtype: Dtype, cols: usize) -> Self {
        Self { dtype, n_chunks: cols.div_ceil(CHUNK) }
    }

    /// Words of a row in the `quants` plane: a multiple of 4.
    #[must_use]
    pub fn quants_row_words(&self) -> usize {
        let n = self.n_chunks;
        match self.dtype {
            Dtype::F32 => n * 32,
            Dtype::F16 | Dtype::BF16 => n * 16,
            Dtype::Q8_0 => n * 8,
            Dtype::Q4_0 | Dtype::Q4_1 | Dtype::Q5_0 | Dtype::Q5_1 | Dtype::Q4K | Dtype::Q5K => n * 4,
            Dtype::Q6K => n / 8 * 48,
            Dtype::Q2K | Dtype::Q3K => n / 8 * 16,
        }
    }

    /// Words of a row in the `aux` plane; 0 for the floating-point types.
    #[must_use]
    pub fn aux_row_words(&self) -> usize {
        let n = self.n_chunks;
        match self.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => 0,
            Dtype::Q4_0 | Dtype::Q8_0 => n.div_ceil(2),
            Dtype::Q4_1 => n,
            Dtype::Q5_0 => n.div_ceil(2) * 3,
            Dtype::Q5_1 => n * 2,
            Dtype::Q4K => n / 8 * 4,
            Dtype::Q2K | Dtype::Q6K => n / 8 * 5,
            Dtype::Q3K | Dtype::Q5K => n / 8 * 12,
        }
    }

    /// Appends the row `bytes`, as it is in the file, to either plane.
    pub fn repack_row(&self, bytes: &[u8], quants: &mut Vec<u32>, aux: &mut Vec<u32>) {
        let quants_end = quants.len() + self.quants_row_words();
        let aux_end = aux.len() + self.aux_row_words();
        match self.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => floats(bytes, quants),
            Dtype::Q4_0 => repack_q4_0(bytes, quants, aux),
            Dtype::Q4_1 => repack_q4_1(bytes, quants, aux),
            Dtype::Q5_0 => repack_q5_0(bytes, quants, aux),
            Dtype::Q5_1 => repack_q5_1(bytes, quants, aux),
            Dtype::Q8_0 => repack_q8_0(bytes, quants, aux),
            Dtype::Q2K => repack_q2_k(bytes, quants, aux),
            Dtype::Q3K => repack_q3_k(bytes, quants, aux),
            Dtype::Q4K => repack_q4_k(bytes, quants, aux),
            Dtype::Q5K => repack_q5_k(bytes, quants, aux),
            Dtype::Q6K => repack_q6_k(bytes, quants, aux),
        }
        quants.resize(quants_end, 0);
        aux.resize(aux_end, 0);
    }
}

/// A little-endian word at byte `at`.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// `N` little-endian words from byte `at`.
fn words<const N: usize>(bytes: &[u8], at: usize) -> [u32; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes[at..at + 4 * N].as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

/// A little-endian 16-bit number at byte `at`.
fn short(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// The f16 at byte `at` as an f32: shaders may take a subnormal f16 for 0.
fn widened(bytes: &[u8], at: usize) -> u32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32().to_bits()
}

/// Floats lie as they are; a row may end within a word.
fn floats(bytes: &[u8], quants: &mut Vec<u32>) {
    let (whole, rest) = bytes.as_chunks::<4>();
    quants.extend(whole.iter().map(|bytes| u32::from_le_bytes(*bytes)));
    if let [a, b, ..] = rest {
        quants.push(u32::from_le_bytes([*a, *b, 0, 0]));
    }
}

/// One half of every byte.
const LOW: u32 = 0x0f0f_0f0f;

/// Two words of numbers in the low halves of their bytes, joined to a word of eight in order.
fn nibbles(first: u32, second: u32) -> u32 {
    first & LOW | (second & LOW) << 4
}

/// The 32-wide types: byte j of 16 holds weight j (low half) and j + 16 (high half).
fn chunk_of_16_bytes(q: [u32; 4]) -> [u32; 4] {
    [nibbles(q[0], q[1]), nibbles(q[2], q[3]), nibbles(q[0] >> 4, q[1] >> 4), nibbles(q[2] >> 4, q[3] >> 4)]
}

/// The K types: the low halves (`shift` = 0) or high halves (4) of 32 bytes are a chunk.
fn chunk_of_32_bytes(bytes: &[u8], at: usize, shift: u32) -> [u32; 4] {
    let q: [u32; 8] = words(bytes, at);
    let pair = |i: usize| nibbles(q[2 * i] >> shift, q[2 * i + 1] >> shift);
    [pair(0), pair(1), pair(2), pair(3)]
}

/// The bits `shift` and `shift` + 1 of 32 bytes: a word for either half of the chunk, numbers 4k to 4k + 3 in
/// bits 2k and 2k + 1 of its bytes.
fn crumbs_of_32_bytes(bytes: &[u8], at: usize, shift: u32) -> [u32; 2] {
    let q: [u32; 8] = words(bytes, at);
    let half = |i: usize| (0..4).fold(0, |word, k| word | (q[i + k] >> shift & 0x0303_0303) << (2 * k));
    [half(0), half(4)]
}

/// Bit `j` of 32 bytes, as the bits of a word.
fn bits_of_32_bytes(bytes: &[u8], at: usize, j: u32) -> u32 {
    (0..4).fold(0, |word, group| {
        let start = at + 8 * group;
        let eight = bytes[start..start + 8].iter().rev().fold(0_u64, |x, byte| x << 8 | u64::from(*byte));
        // One bit a byte; the product moves the bit of byte k to bit 56 + k.
        let gathered = (eight >> j & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        word | (gathered as u32) << (8 * group)
    })
}

fn repack_q4_0(bytes: &[u8], quants: &mut Vec<u32>, aux: &mut Vec<u32>) {
    for pair in bytes.chunks(2 * 18) {
        let mut scales = 0;
        for (i, block) in pair.as_chunks::<18>().0.iter().enumerate() {
            scales |= short(block, 0) << (16 * i);
            quants.extend(chunk_of_16_bytes(words(block, 2)));
        }
        aux.push(scales);
    }
}

fn repack_q4_1(bytes: &[u8], quants: &mut Vec<u32>, aux: &mut Vec<u32>) {
    for block in bytes.as_chunks::<20>().0 {
        aux.push(word(block, 0));
        quants.extend(chunk_of_16_bytes(words(block, 4)));
    }
}

fn repack_q5_0(bytes: &[u8], quants: &mut Vec<u32>, aux: &mut Vec<u32>) {
    for pair in bytes.chunks(2 * 22) {
        let mut three = [0; 3];
        for (i, block) in pair.as_chunks::<22>().0.iter().enumerate() {
            three[2] |= short(block, 0) << (16 * i);
            three[i] = word(block, 2);
            quants.extend(chunk_of_16_bytes(words(block, 6)));
        }
        aux.extend(three);
    }
}

fn repack_q5_1(bytes: &[u8], quants: &mut Vec<u32>, aux: &mut Vec<u32>) {
    for block in bytes.as_chunks::<24>().0 {
        aux.extend([word(block, 4), word(block, 0)]);
        quants.extend(chunk_of_16_bytes(words(block, 8)));
    }
}

fn repack_q8_0(bytes: &[u8], quants: &mut Vec<u32>, aux: &mut Vec<u32>) {
    for pair in bytes.chunks(2 * 34) {
        let mut scales = 0;
        for (i, block) in pair.as_chunks::<34>().0.iter().enumerate() {
            scales |= short(block, 0) << (16 * i);
            quants.extend(words::<8>(block, 2));
        }
        aux.push(scales);
    }
}

fn repack_q2_k(bytes: &[u8], quants: &mut Vec<u32>, aux: &mut Vec<u32>) {
    for block in bytes.as_chunks::<84>().0 {
        for chunk in 0..8 {
            quants.extend(crumbs_of_32_bytes(block, 16 + chunk / 4 * 32, (chunk % 4 * 2) as u32));
        }
        aux.extend(words::<4>(block, 0));
        aux.push(word(block, 80));
    }
}

fn repack_q3_k(bytes: &[u8], quants: &mut Vec<u32>, aux: &mut Vec<u32>) {
    for block in bytes.as_chunks::<110>().0 {
        for chunk in 0..8 {
            quants.extend(crumbs_of_32_bytes(block, 32 + chunk / 4 * 32, (chunk % 4 * 2) as u32));
        }
        aux.extend((0..8).map(|chunk| bits_of_32_bytes(block, 0, chunk)));
        aux.extend(words::<3>(block, 96));
        aux.push(widened(block, 108));
    }
}

fn repack_q4_k(bytes: &[u8], quants: &mut Vec<u32>, aux: &mut Vec<u32>) {
    for block in bytes.as_chunks::<144>().0 {
        for chunk in 0..8 {
            quants.extend(chunk_of_32_bytes(block, 16 + chunk / 2 * 32, (chunk % 2 * 4) as u32));
        }
        aux.extend(words::<3>(block, 4));
        aux.push(word(block, 0));
    }
}

fn repack_q5_k(bytes: &[u8], quants: &mut Vec<u32>, aux: &mut Vec<u32>) {
    for block in bytes.as_chunks::<176>().0 {
        for chunk in 0..8 {
            quants.extend(chunk_of_32_bytes(block, 48 + chunk / 2 * 32, (chunk % 2 * 4) as u32));
        }
        aux.extend(words::<3>(block, 4));
        aux.push(word(block, 0));
        aux.extend((0..8).map(|chunk| bits_of_32_bytes(block, 16, chunk)));
    }
}

fn repack_q6_k(bytes: &[u8], quants: &mut Vec<u32>, aux: &mut Vec<u32>) {
    for block in bytes.as_chunks::<210>().0 {
        for chunk in 0..8 {
            let (half, group) = (chunk / 4, chunk % 4);
            quants.extend(chunk_of_32_bytes(block, half * 64 + group % 2 * 32, (group / 2 * 4) as u32));
        }
        for chunk in 0..8 {
            quants.extend(crumbs_of_32_bytes(block, 128 + chunk / 4 * 32, (chunk % 4 * 2) as u32));
        }
        aux.extend(words::<4>(block, 192));
        aux.push(widened(block, 208));
    }
}
