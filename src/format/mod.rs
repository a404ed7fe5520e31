//! Model files: the first bytes of a GGUF or safetensors file enter, a directory of tensors (names,
//! types, shapes, places in the file) leaves.
//!
//! Everything here is a function from bytes to structures. It knows no GPU, no web and no file
//! system, and it trusts nothing: a length from the file never decides an allocation before the
//! bytes it promises have arrived, and every product and sum of lengths is checked in `u64`, since
//! on wasm32 a `usize` is smaller than the files.

pub mod blocks;
pub mod gguf;
pub mod gguf_writer;
pub mod repack;
pub mod safetensors;

use crate::error::{Error, Result};

/// The most bytes a header may take. Real ones are 1 to 20 MB, nearly all of it vocabulary; parsed, the
/// worst take some five times as much memory, which WebAssembly must still have.
const HEADER_CAP: u64 = 64 << 20;

/// The most bytes a key or a tensor's name may have: GGUF's own limit for keys.
const MAX_NAME_BYTES: u64 = u16::MAX as u64;

/// The most dimensions a tensor may have: GGUF's own limit.
const MAX_DIMS: usize = 4;

/// How the weights of a tensor are stored.
///
/// The names are ggml's; the block layouts are described at their decoders in [`blocks`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Dtype {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an `F32`.
    BF16,
    /// 32 weights of 4 bits, symmetric: `d·(q − 8)`.
    Q4_0,
    /// 32 weights of 4 bits with a minimum: `d·q + m`.
    Q4_1,
    /// 32 weights of 5 bits, symmetric: `d·(q − 16)`.
    Q5_0,
    /// 32 weights of 5 bits with a minimum: `d·q + m`.
    Q5_1,
    /// 32 weights of 8 bits: `d·q`.
    Q8_0,
    /// 256 weights of 2 bits in 16 sub-blocks with 4-bit scales and minimums.
    Q2K,
    /// 256 weights of 3 bits in 16 sub-blocks with 6-bit scales.
    Q3K,
    /// 256 weights of 4 bits in 8 sub-blocks with 6-bit scales and minimums.
    Q4K,
    /// 256 weights of 5 bits in 8 sub-blocks with 6-bit scales and minimums.
    Q5K,
    /// 256 weights of 6 bits in 16 sub-blocks with 8-bit scales.
    Q6K,
}

impl Dtype {
    /// Every type, in the order of the enum.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// ggml's name of the type, such as `"F32"`, `"Q4_0"` or `"Q4_K"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Whether weights are stored one by one, as floating-point numbers.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// Weights in a block; 1 for the floating-point types.
    #[must_use]
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes in a block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes in a row of `cols` weights.
    ///
    /// `None` when `cols` is not a whole number of blocks, or the product overflows.
    #[must_use]
    pub const fn row_bytes(self, cols: u64) -> Option<u64> {
        let block_len = self.block_len() as u64;
        if !cols.is_multiple_of(block_len) {
            return None;
        }
        (cols / block_len).checked_mul(self.block_bytes() as u64)
    }

    /// The type with ggml's number `number`, if this crate reads it.
    #[must_use]
    pub const fn from_gguf(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            10 => Self::Q2K,
            11 => Self::Q3K,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::BF16,
            _ => return None,
        })
    }

    /// ggml's number of the type: the inverse of [`Dtype::from_gguf`].
    #[must_use]
    pub const fn gguf_number(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q2K => 10,
            Self::Q3K => 11,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::BF16 => 30,
        }
    }
}

/// One tensor of a file: what it is and where its bytes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TensorInfo {
    /// The name in the file.
    pub name: String,
    /// How the weights are stored.
    pub dtype: Dtype,
    /// The shape, outermost dimension first: `[rows, cols]` for a matrix. GGUF writes its dimensions
    /// the other way round; they are turned here, so both formats agree.
    pub shape: Vec<u64>,
    /// Where the data begins, counted from the beginning of the file.
    pub offset: u64,
    /// Bytes of data.
    pub bytes: u64,
}

impl TensorInfo {
    /// Weights in a row: the innermost dimension, 1 for a scalar.
    #[must_use]
    pub fn cols(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows: the product of all dimensions but the innermost, 1 for a vector.
    #[must_use]
    pub fn rows(&self) -> u64 {
        let outer = self.shape.len().saturating_sub(1);
        self.shape.iter().take(outer).fold(1, |product, dim| product.saturating_mul(*dim))
    }

    /// Where the data ends. Never wraps for a tensor that came from [`parse_header`].
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }
}

/// A parsed header: what the file holds, before any weight is read.
#[derive(Clone, PartialEq, Debug)]
pub struct Header {
    /// The file's name, for messages.
    pub file: String,
    /// The tensors, sorted by offset and proven not to overlap; all within the file where its size
    /// was known.
    pub tensors: Vec<TensorInfo>,
    /// GGUF's key-value pairs; empty for safetensors.
    pub metadata: gguf::Metadata,
    /// Where tensor data may begin. Alignment can put this past the bytes given to [`parse_header`].
    pub header_bytes: u64,
    /// Where the last tensor ends; [`Header::header_bytes`] when there is none.
    pub data_end: u64,
}

impl Header {
    /// The tensor named `name`.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}

/// What [`parse_header`] could do with the bytes it was given.
#[derive(Clone, PartialEq, Debug)]
pub enum Progress {
    /// Have this many bytes, counted from the beginning of the file, before trying again.
    ///
    /// Never more than the file's size where that was given, and without it never more than the
    /// header is proven to need: a file that ends earlier is truncated.
    NeedMore(u64),
    /// The whole header was there.
    Done(Header),
}

/// Why a parser stopped early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The bytes ended; this many from the file's beginning are needed at the least.
    Short(u64),
    /// The file is not acceptable however many bytes follow.
    Fail(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Fail(error)
    }
}

/// Reads the header of a GGUF or safetensors file from `bytes`, the beginning of the file.
///
/// `file` names the file in messages, `file_size` is its whole size where known; with it a truncated
/// file is found out at once rather than when its data ends. The call keeps no state: on
/// [`Progress::NeedMore`] call again with a longer beginning of the same file.
///
/// # Errors
///
/// [`Error::Corrupt`] for what is no model file, is truncated or contradicts itself, and
/// [`Error::UnsupportedModel`] for versions and tensor types that this crate does not read.
pub fn parse_header(file: &str, bytes: &[u8], file_size: Option<u64>) -> Result<Progress> {
    let given = bytes.len() as u64;
    match file_size {
        Some(0) => return Err(Error::Corrupt(format!("{file} is empty (0 bytes); download it again"))),
        Some(size) if given > size => {
            return Err(Error::Corrupt(format!(
                "{file}: {given} bytes arrived, but its size was given as {size}; download it again"
            )));
        }
        _ => {}
    }
    let parsed = match sniff(bytes) {
        Sniff::Gguf => gguf::parse(file, bytes, file_size),
        Sniff::Safetensors(json_bytes) => safetensors::parse(file, bytes, json_bytes, file_size),
        Sniff::Short if file_size.is_none_or(|size| size >= SNIFF_BYTES) => Err(Stop::Short(SNIFF_BYTES)),
        Sniff::Short if file_size.is_some_and(|size| given < size) => Err(Stop::Short(SNIFF_BYTES)),
        Sniff::Short | Sniff::Unknown => Err(unknown_format(file, bytes).into()),
    };
    match parsed {
        Ok(header) => Ok(Progress::Done(header)),
        Err(Stop::Fail(error)) => Err(error),
        Err(Stop::Short(least)) => Ok(Progress::NeedMore(match file_size {
            // Every retry parses from the start, so ask for twice what did not suffice; only where
            // the size is known, so that what is asked for exists.
            Some(size) => least.max(given.saturating_mul(2).min(HEADER_CAP)).min(size),
            None => least,
        })),
    }
}

/// What the first bytes say about the format.
enum Sniff {
    Gguf,
    /// With the length of the JSON header.
    Safetensors(u64),
    Short,
    Unknown,
}

/// Bytes that decide the format: safetensors' length and the brace behind it.
const SNIFF_BYTES: u64 = 9;

fn sniff(bytes: &[u8]) -> Sniff {
    const MAGIC: &[u8] = b"GGUF";
    if bytes.starts_with(MAGIC) {
        return Sniff::Gguf;
    }
    match bytes.split_first_chunk::<8>() {
        Some((length, [b'{', ..])) => Sniff::Safetensors(u64::from_le_bytes(*length)),
        Some((_, [_, ..])) => Sniff::Unknown,
        _ => Sniff::Short,
    }
}

/// The error for a file of no known format, with a guess at what it is instead.
fn unknown_format(file: &str, bytes: &[u8]) -> Error {
    let head = bytes.get(..16).unwrap_or(bytes);
    let shown = if !head.is_empty() && head.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t')) {
        format!("{:?}", String::from_utf8_lossy(head))
    } else {
        let hex: Vec<String> = head.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("bytes {}", hex.join(" "))
    };
    let text = bytes.trim_ascii_start();
    let is_text = bytes.iter().take(64).all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t'));
    let hint = match bytes {
        // A pointer is all that a clone without `git lfs` brings, and what a "raw" link serves.
        _ if text.starts_with(b"version ") => {
            "this is a Git LFS pointer, not the file itself; use the \"resolve\" link, or run git lfs pull"
        }
        _ if text.starts_with(b"<") => "this is an HTML or XML page, perhaps a login or error page; check the address",
        _ if text.starts_with(b"{") || text.starts_with(b"[") => {
            "this is JSON; give the weights, not a configuration, or read it for a server's error message"
        }
        [b'P', b'K', ..] => "this is a zip archive or a PyTorch checkpoint; convert it to safetensors",
        [0x80, ..] => "this may be a Python pickle; convert it to safetensors",
        [0x1f, 0x8b, ..] => "this is compressed with gzip; unpack it first",
        [b'F', b'U', b'G', b'G', ..] => "this is a GGUF file with its bytes swapped",
        [b't', b'j', b'g', b'g', ..] | [b'l' | b'f', b'm', b'g', b'g', ..] => {
            "this is a GGML file from before GGUF; convert it anew"
        }
        _ if is_text => "this is text, perhaps a server's error message; check the address",
        _ => "check that the download is complete and is the right file",
    };
    Error::Corrupt(format!("{file} is neither GGUF nor safetensors: it begins with {shown}; {hint}"))
}

/// Text from a file, cut to what fits a message.
pub(crate) fn shorten(text: &str) -> String {
    const MAX_CHARS: usize = 100;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The error for a file that is shorter than its header says.
fn truncated(file: &str, what: &str, end: u64, size: u64) -> Error {
    Error::Corrupt(format!(
        "{file} is truncated: {what} ends at byte {end} but the file has {size} bytes; download it again"
    ))
}

/// Bytes of a tensor, or what is wrong with its shape (to follow the tensor's name in a message).
fn tensor_bytes(dtype: Dtype, shape: &[u64]) -> Result<u64, String> {
    if shape.len() > MAX_DIMS {
        return Err(format!("has {} dimensions; at most {MAX_DIMS} are supported", shape.len()));
    }
    if shape.contains(&0) {
        return Err(format!("has a dimension of 0 in its shape {shape:?}"));
    }
    let (cols, outer) = shape.split_last().map_or((1, shape), |(cols, outer)| (*cols, outer));
    if !cols.is_multiple_of(dtype.block_len() as u64) {
        let (name, block_len) = (dtype.name(), dtype.block_len());
        return Err(format!("has rows of {cols} weights, not a multiple of {name}'s block of {block_len}"));
    }
    dtype
        .row_bytes(cols)
        .and_then(|row_bytes| outer.iter().try_fold(row_bytes, |bytes, dim| bytes.checked_mul(*dim)))
        .ok_or_else(|| format!("has the shape {shape:?}, more than 2^64 bytes"))
}

/// The checks that both formats share; builds the [`Header`].
fn finish(
    file: &str,
    mut tensors: Vec<TensorInfo>,
    metadata: gguf::Metadata,
    header_bytes: u64,
    file_size: Option<u64>,
) -> Result<Header> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    if let Some(name) = names.windows(2).find_map(|pair| (pair[0] == pair[1]).then_some(pair[0])) {
        return Err(Error::Corrupt(format!("{file}: tensor {name:?} appears twice")));
    }
    tensors.sort_by_key(|tensor| tensor.offset);
    let mut data_end = header_bytes;
    let mut before: Option<&str> = None;
    for tensor in &tensors {
        let (name, offset) = (&tensor.name, tensor.offset);
        if offset < data_end {
            let before = before.map_or("the header".to_owned(), |before| format!("tensor {before:?}"));
            return Err(Error::Corrupt(format!(
                "{file}: tensor {name:?} begins at byte {offset}, inside {before}, which ends at byte {data_end}"
            )));
        }
        data_end = offset.checked_add(tensor.bytes).ok_or_else(|| {
            Error::Corrupt(format!("{file}: tensor {name:?} at byte {offset} ends beyond 2^64 bytes"))
        })?;
        before = Some(name);
    }
    // Only the last tensor can end last, as none overlap.
    if let (Some(size), Some(last)) = (file_size, tensors.last())
        && data_end > size
    {
        let first = tensors.iter().find(|tensor| tensor.end() > size).unwrap_or(last);
        return Err(truncated(file, &format!("tensor {:?}", first.name), first.end(), size));
    }
    Ok(Header { file: file.to_owned(), tensors, metadata, header_bytes, data_end })
}
