//! GGUF headers: the file's first bytes enter, key-value pairs and tensor places leave.
//!
//! The format, all little-endian: `"GGUF"`, version `u32`, tensor count `u64`, pair count `u64`, the
//! pairs, the tensor descriptions, padding to `general.alignment`, then data. A string is a `u64`
//! length and UTF-8; an array is an element type `u32`, a `u64` count and the elements. Source:
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Which keys a model needs is
//! `config`'s and the tokenizer's business, not this file's.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Dtype, HEADER_CAP, Header, MAX_DIMS, MAX_NAME_BYTES, Stop, TensorInfo, finish, tensor_bytes, truncated};
use crate::error::{Error, Result};

/// The fewest bytes of a pair: an empty key, its type, one byte.
const MIN_PAIR_BYTES: u64 = 8 + 4 + 1;
/// The fewest bytes of a tensor description: an empty name, one dimension.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;
/// How deep arrays may nest. Real files do not nest them at all.
const MAX_ARRAY_DEPTH: u32 = 4;
/// The alignment of tensor data where the file names none.
const DEFAULT_ALIGNMENT: u64 = 32;

/// A value of a key-value pair.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// An unsigned integer of any width.
    Uint(u64),
    /// A signed integer of any width.
    Int(i64),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
    /// A truth value.
    Bool(bool),
    /// A string.
    Str(String),
    /// An array.
    Array(Array),
}

/// An array's elements, stored without a [`Value`] around each: vocabularies have 100,000 of them.
#[derive(Clone, PartialEq, Debug)]
pub enum Array {
    /// 8-bit unsigned integers.
    U8(Vec<u8>),
    /// Integers of 8 (signed), 16 and 32 (signed) bits.
    I32(Vec<i32>),
    /// Integers of 32 (unsigned) and 64 (signed) bits.
    I64(Vec<i64>),
    /// 64-bit unsigned integers.
    U64(Vec<u64>),
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Strings.
    Str(Vec<String>),
    /// Arrays.
    Nested(Vec<Array>),
}

impl Array {
    /// How many elements there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::U8(items) => items.len(),
            Self::I32(items) => items.len(),
            Self::I64(items) => items.len(),
            Self::U64(items) => items.len(),
            Self::F32(items) => items.len(),
            Self::F64(items) => items.len(),
            Self::Bool(items) => items.len(),
            Self::Str(items) => items.len(),
            Self::Nested(items) => items.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::U8(_) | Self::I32(_) | Self::I64(_) | Self::U64(_) => "an array of integers",
            Self::F32(_) | Self::F64(_) => "an array of floats",
            Self::Bool(_) => "an array of truth values",
            Self::Str(_) => "an array of strings",
            Self::Nested(_) => "an array of arrays",
        }
    }
}

impl Value {
    /// What the value is, for messages: `"the integer 7"`, `"an array of strings"`.
    fn describe(&self) -> String {
        match self {
            Self::Uint(value) => format!("the integer {value}"),
            Self::Int(value) => format!("the integer {value}"),
            Self::F32(value) => format!("the float {value}"),
            Self::F64(value) => format!("the float {value}"),
            Self::Bool(value) => format!("{value}"),
            Self::Str(_) => "a string".to_owned(),
            Self::Array(array) => array.kind().to_owned(),
        }
    }
}

/// The key-value pairs of a GGUF file.
///
/// The getters give `Ok(None)` where the key is absent, and [`Error::Corrupt`] naming file, key,
/// expected and found where its value is of another type or does not fit.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Metadata {
    file: String,
    pairs: BTreeMap<String, Value>,
}

impl Metadata {
    /// No pairs; `file` is for messages.
    #[must_use]
    pub fn empty(file: &str) -> Self {
        Self { file: file.to_owned(), pairs: BTreeMap::new() }
    }

    /// How many pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Whether `key` is present.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.pairs.contains_key(key)
    }

    /// The value of `key` as it is stored.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.pairs.get(key)
    }

    /// The pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Adds a pair or replaces its value.
    pub fn insert(&mut self, key: impl Into<String>, value: Value) {
        self.pairs.insert(key.into(), value);
    }

    /// Removes the pairs whose keys `keep` does not want.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.pairs.retain(|key, _| keep(key));
    }

    /// A string.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for a value of another type.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        self.convert(key, "a string", |value| match value {
            Value::Str(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An integer of any width that fits `u32`.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for a value of another type or out of range.
    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.convert(key, "an integer from 0 to 2^32 - 1", |value| match value {
            Value::Uint(value) => (*value).try_into().ok(),
            Value::Int(value) => (*value).try_into().ok(),
            _ => None,
        })
    }

    /// An integer of any width that is not negative.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for a value of another type or out of range.
    pub fn u64(&self, key: &str) -> Result<Option<u64>> {
        self.convert(key, "an integer from 0 to 2^64 - 1", |value| match value {
            Value::Uint(value) => Some(*value),
            Value::Int(value) => (*value).try_into().ok(),
            _ => None,
        })
    }

    /// A float of either width, or an integer, rounded to `f32`.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for a value of another type.
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        self.convert(key, "a number", |value| match value {
            Value::F32(value) => Some(*value),
            Value::F64(value) => Some(*value as f32),
            Value::Uint(value) => Some(*value as f32),
            Value::Int(value) => Some(*value as f32),
            _ => None,
        })
    }

    /// A truth value.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for a value of another type.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.convert(key, "true or false", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// An array of strings.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for a value of another type.
    pub fn str_array(&self, key: &str) -> Result<Option<&[String]>> {
        self.array(key, "an array of strings", |array| match array {
            Array::Str(items) => Some(items.as_slice()),
            _ => None,
        })
    }

    /// An array of floats of either width, rounded to `f32`.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for a value of another type.
    pub fn f32_array(&self, key: &str) -> Result<Option<Cow<'_, [f32]>>> {
        self.array(key, "an array of floats", |array| match array {
            Array::F32(items) => Some(Cow::Borrowed(items.as_slice())),
            Array::F64(items) => Some(items.iter().map(|item| *item as f32).collect()),
            _ => None,
        })
    }

    /// An array of integers of any width that all fit `i32`.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for a value of another type or an element out of range.
    pub fn i32_array(&self, key: &str) -> Result<Option<Cow<'_, [i32]>>> {
        self.array(key, "an array of 32-bit integers", |array| match array {
            Array::U8(items) => Some(items.iter().map(|item| i32::from(*item)).collect()),
            Array::I32(items) => Some(Cow::Borrowed(items.as_slice())),
            Array::I64(items) => items.iter().map(|item| i32::try_from(*item).ok()).collect::<Option<_>>(),
            Array::U64(items) => items.iter().map(|item| i32::try_from(*item).ok()).collect::<Option<_>>(),
            _ => None,
        })
    }

    fn array<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl Fn(&'a Array) -> Option<T>,
    ) -> Result<Option<T>> {
        self.convert(key, expected, |value| match value {
            Value::Array(array) => convert(array),
            _ => None,
        })
    }

    fn convert<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.pairs.get(key) else { return Ok(None) };
        convert(value).map(Some).ok_or_else(|| {
            let (file, found) = (&self.file, value.describe());
            Error::Corrupt(format!("{file}: metadata key {key:?} should be {expected} but is {found}"))
        })
    }
}

/// Parses a whole header from the beginning of a file that is known to start with the magic.
pub(super) fn parse(file: &str, bytes: &[u8], file_size: Option<u64>) -> Result<Header, Stop> {
    let mut reader = Reader { file, bytes, pos: 0, file_size, reserve: 0, item: "the header".to_owned() };
    reader.take(4)?; // the magic
    check_version(file, reader.u32()?)?;
    let n_tensors = reader.count(MIN_TENSOR_BYTES, "tensors")?;
    let n_pairs = reader.count(MIN_PAIR_BYTES, "metadata pairs")?;

    let tensors_at_least = n_tensors.saturating_mul(MIN_TENSOR_BYTES);
    let mut metadata = Metadata::empty(file);
    for n_left in (0..n_pairs).rev() {
        reader.reserve = tensors_at_least.saturating_add(n_left.saturating_mul(MIN_PAIR_BYTES));
        "a metadata key".clone_into(&mut reader.item);
        let key = reader.name()?;
        reader.item = format!("metadata key {key:?}");
        let kind = reader.u32()?;
        let value = reader.value(kind)?;
        if metadata.pairs.insert(key, value).is_some() {
            return Err(reader.corrupt("appears twice").into());
        }
    }

    let alignment = metadata.u64("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() {
        let message = format!("{file}: general.alignment is {alignment}, not a power of two");
        return Err(Error::Corrupt(message).into());
    }

    // Offsets count from the end of the header, which is known only after the last description.
    let mut tensors: Vec<TensorInfo> = Vec::new();
    for n_left in (0..n_tensors).rev() {
        reader.reserve = n_left.saturating_mul(MIN_TENSOR_BYTES);
        let tensor = reader.tensor()?;
        if !tensor.offset.is_multiple_of(alignment) {
            let problem = format!("has the offset {}, not a multiple of the alignment {alignment}", tensor.offset);
            return Err(reader.corrupt(&problem).into());
        }
        tensors.push(tensor);
    }
    let end = reader.pos as u64;
    // A file of metadata alone may end without the padding.
    let header_bytes = if tensors.is_empty() { Some(end) } else { end.checked_next_multiple_of(alignment) };
    let too_far = |what: &str| Error::Corrupt(format!("{file}: {what} lies beyond 2^64 bytes"));
    let header_bytes = header_bytes.ok_or_else(|| too_far("the tensor data"))?;
    for tensor in &mut tensors {
        tensor.offset =
            tensor.offset.checked_add(header_bytes).ok_or_else(|| too_far(&format!("tensor {:?}", tensor.name)))?;
    }
    Ok(finish(file, tensors, metadata, header_bytes, file_size)?)
}

fn check_version(file: &str, version: u32) -> Result<()> {
    match version {
        2 | 3 => Ok(()),
        1 => Err(Error::UnsupportedModel(format!(
            "{file} is GGUF version 1, which was short-lived; convert it anew (versions 2 and 3 are supported)"
        ))),
        _ if (1..=0xff).contains(&version.swap_bytes()) => {
            Err(Error::UnsupportedModel(format!("{file} is a big-endian GGUF file; use the little-endian one")))
        }
        _ => Err(Error::UnsupportedModel(format!("{file} is GGUF version {version}; versions 2 and 3 are supported"))),
    }
}

/// A position in the bytes that have arrived.
struct Reader<'a> {
    file: &'a str,
    bytes: &'a [u8],
    pos: usize,
    file_size: Option<u64>,
    /// Bytes that must at least follow what is being read. Asking for them as well makes the number
    /// of retries logarithmic: most of a header is arrays of strings, whose lengths come piecemeal.
    reserve: u64,
    /// What is being read, for messages.
    item: String,
}

impl<'a> Reader<'a> {
    fn corrupt(&self, problem: &str) -> Error {
        Error::Corrupt(format!("{}: {} {problem}", self.file, self.item))
    }

    /// The next `len` bytes.
    fn take(&mut self, len: u64) -> Result<&'a [u8], Stop> {
        let beyond = || self.corrupt(&format!("claims a length of {len} bytes"));
        let end = (self.pos as u64).checked_add(len).ok_or_else(beyond)?;
        let least = end.checked_add(self.reserve).ok_or_else(beyond)?;
        match self.file_size {
            Some(size) if least > size => {
                return Err(truncated(self.file, &format!("the header, at {},", self.item), least, size).into());
            }
            _ if least > HEADER_CAP => {
                let problem = format!("needs a header of {least} bytes; at most {HEADER_CAP} are read");
                return Err(self.corrupt(&problem).into());
            }
            _ => {}
        }
        let range = usize::try_from(end).ok().and_then(|end| self.bytes.get(self.pos..end));
        let taken = range.ok_or(Stop::Short(least))?;
        self.pos += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let taken = self.take(N as u64)?;
        // `take` gives what was asked for.
        Ok(taken.first_chunk::<N>().copied().unwrap_or([0; N]))
    }

    fn u32(&mut self) -> Result<u32, Stop> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Stop> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of things of at least `min_bytes` each, refused when they cannot fit.
    fn count(&mut self, min_bytes: u64, things: &str) -> Result<u64, Stop> {
        let count = self.u64()?;
        let limit = self.file_size.unwrap_or(u64::MAX).min(HEADER_CAP);
        if count.checked_mul(min_bytes).is_none_or(|bytes| bytes > limit) {
            let problem =
                format!("claims {count} {things}, more than {limit} bytes can hold: it is truncated or damaged");
            return Err(self.corrupt(&problem).into());
        }
        Ok(count)
    }

    fn string(&mut self) -> Result<String, Stop> {
        self.string_up_to(u64::MAX)
    }

    /// A string short enough to stand in every message.
    fn name(&mut self) -> Result<String, Stop> {
        self.string_up_to(MAX_NAME_BYTES)
    }

    fn string_up_to(&mut self, max_bytes: u64) -> Result<String, Stop> {
        let len = self.u64()?;
        if len > max_bytes {
            return Err(self.corrupt(&format!("has {len} bytes; at most {max_bytes} are possible")).into());
        }
        let start = self.pos;
        let bytes = self.take(len)?;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| self.corrupt(&format!("holds a string at byte {start} that is not UTF-8")))?;
        Ok(text.to_owned())
    }

    fn bool(&self, byte: u8) -> Result<bool, Stop> {
        match byte {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.corrupt(&format!("holds {byte} as a truth value; 0 or 1 was expected")).into()),
        }
    }

    /// A value of the type with the number `kind`.
    fn value(&mut self, kind: u32) -> Result<Value, Stop> {
        Ok(match kind {
            0 => Value::Uint(u8::from_le_bytes(self.array()?).into()),
            1 => Value::Int(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Uint(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Int(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Uint(self.u32()?.into()),
            5 => Value::Int(i32::from_le_bytes(self.array()?).into()),
            6 => Value::F32(f32::from_le_bytes(self.array()?)),
            7 => {
                let [byte] = self.array()?;
                Value::Bool(self.bool(byte)?)
            }
            8 => Value::Str(self.string()?),
            9 => Value::Array(self.value_array(0)?),
            10 => Value::Uint(self.u64()?),
            11 => Value::Int(i64::from_le_bytes(self.array()?)),
            12 => Value::F64(f64::from_le_bytes(self.array()?)),
            _ => return Err(self.corrupt(&format!("has the unknown value type {kind}")).into()),
        })
    }

    /// An array: element type, count, elements.
    fn value_array(&mut self, depth: u32) -> Result<Array, Stop> {
        let kind = self.u32()?;
        Ok(match kind {
            0 => Array::U8(self.fixed(|[byte]: [u8; 1]| byte)?),
            1 => Array::I32(self.fixed(|bytes| i8::from_le_bytes(bytes).into())?),
            2 => Array::I32(self.fixed(|bytes| u16::from_le_bytes(bytes).into())?),
            3 => Array::I32(self.fixed(|bytes| i16::from_le_bytes(bytes).into())?),
            4 => Array::I64(self.fixed(|bytes| u32::from_le_bytes(bytes).into())?),
            5 => Array::I32(self.fixed(i32::from_le_bytes)?),
            6 => Array::F32(self.fixed(f32::from_le_bytes)?),
            7 => {
                let bytes = self.fixed(|[byte]: [u8; 1]| byte)?;
                Array::Bool(bytes.into_iter().map(|byte| self.bool(byte)).collect::<Result<_, _>>()?)
            }
            8 => Array::Str(self.each(8, Self::string)?),
            9 if depth < MAX_ARRAY_DEPTH => Array::Nested(self.each(12, |reader| reader.value_array(depth + 1))?),
            9 => return Err(self.corrupt(&format!("nests arrays deeper than {MAX_ARRAY_DEPTH}")).into()),
            10 => Array::U64(self.fixed(u64::from_le_bytes)?),
            11 => Array::I64(self.fixed(i64::from_le_bytes)?),
            12 => Array::F64(self.fixed(f64::from_le_bytes)?),
            _ => return Err(self.corrupt(&format!("is an array of the unknown value type {kind}")).into()),
        })
    }

    /// A count and that many elements of `N` bytes. They are allocated once all have arrived.
    fn fixed<const N: usize, T>(&mut self, convert: impl Fn([u8; N]) -> T) -> Result<Vec<T>, Stop> {
        let count = self.count(N as u64, "elements")?;
        let bytes = self.take(count.saturating_mul(N as u64))?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|chunk| convert(*chunk)).collect())
    }

    /// A count and that many elements of at least `min_bytes`. The vector grows as they arrive.
    fn each<T>(&mut self, min_bytes: u64, read: impl Fn(&mut Self) -> Result<T, Stop>) -> Result<Vec<T>, Stop> {
        let count = self.count(min_bytes, "elements")?;
        let outer = self.reserve;
        let mut items = Vec::new();
        for n_left in (0..count).rev() {
            self.reserve = outer.saturating_add(n_left.saturating_mul(min_bytes));
            items.push(read(self)?);
        }
        self.reserve = outer;
        Ok(items)
    }

    /// A tensor's description. Its offset is still relative to the data.
    fn tensor(&mut self) -> Result<TensorInfo, Stop> {
        "a tensor's name".clone_into(&mut self.item);
        let name = self.name()?;
        self.item = format!("tensor {name:?}");
        let n_dims = self.u32()?;
        if n_dims == 0 || n_dims as usize > MAX_DIMS {
            return Err(self.corrupt(&format!("has {n_dims} dimensions; 1 to {MAX_DIMS} are possible")).into());
        }
        let mut shape = Vec::new();
        for _ in 0..n_dims {
            shape.push(self.u64()?);
        }
        shape.reverse(); // the file has the innermost first
        let number = self.u32()?;
        let dtype = Dtype::from_gguf(number).ok_or_else(|| self.unsupported_type(number))?;
        let bytes = tensor_bytes(dtype, &shape).map_err(|problem| self.corrupt(&problem))?;
        let offset = self.u64()?;
        Ok(TensorInfo { name, dtype, shape, offset, bytes })
    }

    fn unsupported_type(&self, number: u32) -> Error {
        let (file, item) = (self.file, &self.item);
        let name = ggml_type_name(number).unwrap_or("unknown");
        let supported: Vec<&str> = Dtype::ALL.iter().map(|dtype| dtype.name()).collect();
        Error::UnsupportedModel(format!(
            "{file}: {item} has ggml type {number} ({name}), which is not supported; take a file whose \
             tensors are {}",
            supported.join(", ")
        ))
    }
}

/// ggml's names for the types that this crate does not read, for messages.
const fn ggml_type_name(number: u32) -> Option<&'static str> {
    Some(match number {
        4 => "Q4_2, withdrawn",
        5 => "Q4_3, withdrawn",
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        31 => "Q4_0_4_4, withdrawn",
        32 => "Q4_0_4_8, withdrawn",
        33 => "Q4_0_8_8, withdrawn",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36 => "IQ4_NL_4_4, withdrawn",
        37 => "IQ4_NL_4_8, withdrawn",
        38 => "IQ4_NL_8_8, withdrawn",
        39 => "MXFP4",
        40 => "NVFP4",
        41 => "Q1_0",
        _ => return None,
    })
}
