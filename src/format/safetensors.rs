//! Safetensors headers: the file's first bytes enter, tensor places leave; and the index that says
//! which shard of a checkpoint holds which tensor.
//!
//! The format: a little-endian `u64`, that many bytes of JSON (name → dtype, shape, place counted
//! from the end of the JSON), then data without holes. Source:
//! <https://github.com/huggingface/safetensors#format>. It knows nothing of folders or addresses:
//! who reads an index fetches the shards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{
    Dtype, HEADER_CAP, Header, MAX_NAME_BYTES, Stop, TensorInfo, finish, gguf, shorten, tensor_bytes, truncated,
};
use crate::error::{Error, Result};

/// Bytes of the length before the JSON.
const LENGTH_BYTES: u64 = 8;

/// The key of free-form strings among the tensors.
const METADATA_KEY: &str = "__metadata__";

/// Which file of a sharded checkpoint holds which tensor: `model.safetensors.index.json`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Index {
    /// The shards' file names, sorted, each once.
    pub shards: Vec<String>,
    /// Tensor name → shard.
    pub weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Parses the index. `file` names it in messages.
    ///
    /// A shard's name is going to be joined to a folder or an address, so one that could lead
    /// elsewhere (a separator, `..`, a drive or a query) is refused.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for what is no index, names a tensor twice, or has such a shard name.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Raw {
            weight_map: Entries<String>,
        }
        let raw: Raw =
            serde_json::from_str(text).map_err(|error| parse_error(file, "is not a safetensors index", &error))?;
        let mut weight_map = BTreeMap::new();
        for (name, shard) in raw.weight_map.0 {
            if !is_plain_name(&shard) {
                return Err(Error::Corrupt(format!(
                    "{file}: tensor {:?} is said to be in {:?}; expected the plain name of a .safetensors file in the \
                     same folder",
                    shorten(&name),
                    shorten(&shard)
                )));
            }
            if let Some(other) = weight_map.insert(name.clone(), shard) {
                let name = shorten(&name);
                return Err(Error::Corrupt(format!("{file}: tensor {name:?} appears twice (once in {other:?})")));
            }
        }
        if weight_map.is_empty() {
            return Err(Error::Corrupt(format!("{file}: the weight_map is empty")));
        }
        let shards: BTreeSet<&String> = weight_map.values().collect();
        Ok(Self { shards: shards.into_iter().cloned().collect(), weight_map })
    }
}

/// The error for what is no JSON or no JSON of the kind that was expected. serde quotes strings whole.
fn parse_error(file: &str, problem: &str, error: &serde_json::Error) -> Error {
    let (line, column, error) = (error.line(), error.column(), error.to_string());
    Error::Corrupt(format!("{file} {problem}, line {line} column {column}: {}", shorten(&error)))
}

/// Whether `name` is the name of a file and can be nothing else in a path or an address.
fn is_plain_name(name: &str) -> bool {
    let is_special = |c: char| matches!(c, '/' | '\\' | ':' | '?' | '#' | '%') || c.is_control();
    name.ends_with(".safetensors") && !name.starts_with('.') && !name.contains("..") && !name.contains(is_special)
}

/// Parses a whole header from the beginning of a file, `json_bytes` being its first eight bytes.
pub(super) fn parse(file: &str, bytes: &[u8], json_bytes: u64, file_size: Option<u64>) -> Result<Header, Stop> {
    if json_bytes > HEADER_CAP {
        let message =
            format!("{file}: the safetensors header claims {json_bytes} bytes; at most {HEADER_CAP} are read");
        return Err(Error::Corrupt(message).into());
    }
    let header_bytes = LENGTH_BYTES + json_bytes;
    if let Some(size) = file_size
        && header_bytes > size
    {
        return Err(truncated(file, "the safetensors header", header_bytes, size).into());
    }
    let json = usize::try_from(header_bytes).ok().and_then(|end| bytes.get(LENGTH_BYTES as usize..end));
    let json = json.ok_or(Stop::Short(header_bytes))?;
    let entries: Entries<Entry> = serde_json::from_slice(json)
        .map_err(|error| parse_error(file, "does not parse as a safetensors header", &error))?;

    let mut tensors = Vec::new();
    for (name, entry) in entries.0 {
        tensors.push(entry.into_tensor(file, name, header_bytes)?);
    }
    let header = finish(file, tensors, gguf::Metadata::empty(file), header_bytes, file_size)?;
    check_holes(&header, file_size)?;
    Ok(header)
}

/// The format promises that every byte of data belongs to a tensor.
fn check_holes(header: &Header, file_size: Option<u64>) -> Result<()> {
    let file = &header.file;
    let mut end = header.header_bytes;
    for tensor in &header.tensors {
        if tensor.offset != end {
            let (name, offset) = (&tensor.name, tensor.offset);
            return Err(Error::Corrupt(format!(
                "{file}: bytes {end} to {offset}, before tensor {name:?}, belong to no tensor"
            )));
        }
        end = tensor.end();
    }
    match file_size {
        Some(size) if size > end => Err(Error::Corrupt(format!(
            "{file}: the last tensor ends at byte {end} but the file has {size} bytes; download it again"
        ))),
        _ => Ok(()),
    }
}

/// A tensor as the JSON describes it.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    /// Begin and end, counted from the end of the JSON.
    data_offsets: [u64; 2],
}

impl Entry {
    fn into_tensor(self, file: &str, name: String, header_bytes: u64) -> Result<TensorInfo> {
        if name.len() as u64 > MAX_NAME_BYTES {
            let (name, len) = (shorten(&name), name.len());
            return Err(Error::Corrupt(format!(
                "{file}: a tensor's name, {name:?}, has {len} bytes; at most {MAX_NAME_BYTES} are possible"
            )));
        }
        let corrupt = |problem: &str| Error::Corrupt(format!("{file}: tensor {name:?} {problem}"));
        let dtype = match self.dtype.as_str() {
            "F32" => Dtype::F32,
            "F16" => Dtype::F16,
            "BF16" => Dtype::BF16,
            other => {
                return Err(Error::UnsupportedModel(format!(
                    "{file}: tensor {name:?} has dtype {:?}; F32, F16 and BF16 are supported in safetensors (for \
                     quantised weights use GGUF)",
                    shorten(other)
                )));
            }
        };
        let bytes = tensor_bytes(dtype, &self.shape).map_err(|problem| corrupt(&problem))?;
        let [begin, end] = self.data_offsets;
        if end.checked_sub(begin) != Some(bytes) {
            let (dtype, shape) = (dtype.name(), &self.shape);
            return Err(corrupt(&format!(
                "lies at bytes {begin} to {end} of the data, but {shape:?} in {dtype} takes {bytes} bytes"
            )));
        }
        let offset = begin
            .checked_add(header_bytes)
            .filter(|offset| offset.checked_add(bytes).is_some())
            .ok_or_else(|| corrupt("lies beyond 2^64 bytes"))?;
        Ok(TensorInfo { name, dtype, shape: self.shape, offset, bytes })
    }
}

/// A JSON object as a list of pairs, without `__metadata__`.
///
/// A map would silently keep the last of two entries of the same name; here the duplicate survives
/// to be refused.
struct Entries<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
            type Value = Entries<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object whose keys are tensor names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key == METADATA_KEY {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        pairs.push((key, map.next_value()?));
                    }
                }
                Ok(Entries(pairs))
            }
        }

        deserializer.deserialize_map(Pairs(PhantomData))
    }
}
