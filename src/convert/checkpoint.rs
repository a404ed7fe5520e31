//! A model's files as a source of weights: rows by their place in the model, read where they lie.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::Source;
use crate::config::{LayerWeight, ModelConfig, RopePairs, WeightId};
use crate::error::{Error, Result};
use crate::files::{ModelFiles, unreadable};
use crate::format::gguf::{Metadata, Value};
use crate::format::{Dtype, TensorInfo, blocks};
use crate::loader::interleaved;

/// A model on disk.
#[derive(Debug)]
pub struct Checkpoint {
    config: ModelConfig,
    metadata: Metadata,
    files: Vec<(PathBuf, Mutex<File>)>,
    /// Which file has a weight, and where.
    tensors: BTreeMap<WeightId, (usize, TensorInfo)>,
    /// Whether halves of heads are to be interleaved.
    is_halved: bool,
}

impl Checkpoint {
    /// Reads the headers of a model's files.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Corrupt`] and [`Error::UnsupportedModel`], as for a model to be loaded.
    pub fn open(files: &ModelFiles) -> Result<Self> {
        let (config, headers) = files.headers()?;
        let mut tensors = BTreeMap::new();
        let mut opened = Vec::new();
        let mut metadata = None;
        for (path, header) in headers {
            let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
            for tensor in &header.tensors {
                let Some(id) = config.check_tensor(&header.file, tensor)? else { continue };
                if tensors.insert(id, (opened.len(), tensor.clone())).is_some() {
                    let (file, name) = (&header.file, &tensor.name);
                    return Err(Error::Corrupt(format!(
                        "{file}: tensor {name:?} is weight {id}, which was there before"
                    )));
                }
            }
            if !header.metadata.is_empty() {
                metadata.get_or_insert(header.metadata);
            }
            opened.push((path, Mutex::new(file)));
        }
        if let Some(missing) = config.required().iter().find(|id| !tensors.contains_key(id)) {
            let last = opened.last().map_or(String::new(), |(path, _)| path.display().to_string());
            return Err(Error::Corrupt(format!("{last}: the weight {missing} is missing; is a shard missing?")));
        }
        let is_halved = config.rope_pairs == RopePairs::Halves;
        let metadata = match metadata {
            Some(metadata) => carried(&metadata),
            None => described(&config),
        };
        // As they are given from here on.
        let config = ModelConfig { rope_pairs: RopePairs::Adjacent, ..config };
        Ok(Self { config, metadata, files: opened, tensors, is_halved })
    }

    /// What files of the model say besides its weights.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn tensor(&self, id: WeightId) -> Result<&(usize, TensorInfo)> {
        self.tensors.get(&id).ok_or_else(|| Error::Internal(format!("the weight {id} was not checked for")))
    }
}

impl Source for Checkpoint {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn dtype(&self, id: WeightId) -> Option<Dtype> {
        self.tensors.get(&id).map(|(_, tensor)| tensor.dtype)
    }

    fn bytes(&self, id: WeightId, rows: Range<u64>) -> Result<Vec<u8>> {
        let (index, tensor) = self.tensor(id)?;
        let row_bytes = tensor.bytes / tensor.rows();
        let (path, file) = &self.files[*index];
        let read = |rows: Range<u64>| -> Result<Vec<u8>> {
            let mut bytes = vec![0; ((rows.end - rows.start) * row_bytes) as usize];
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(tensor.offset + rows.start * row_bytes))
                .and_then(|_| file.read_exact(&mut bytes))
                .map_err(|error| unreadable(path, &error))?;
            Ok(bytes)
        };
        let rotates = matches!(id, WeightId::Layer(_, LayerWeight::Q | LayerWeight::K));
        if !(self.is_halved && rotates) {
            return read(rows);
        }
        // Whole heads, of which the rows asked for are taken.
        let unit = self.config.head_dim as u64;
        let heads = rows.start / unit * unit..rows.end.next_multiple_of(unit);
        let all = read(heads.clone())?;
        let mut bytes = Vec::new();
        for row in rows {
            let head = row / unit * unit;
            let from = head - heads.start + interleaved((row - head) as usize, unit as usize) as u64;
            bytes.extend(&all[(from * row_bytes) as usize..][..row_bytes as usize]);
        }
        Ok(bytes)
    }

    fn values(&self, id: WeightId, rows: Range<u64>) -> Result<Vec<f32>> {
        let (_, tensor) = self.tensor(id)?;
        let cols = tensor.cols() as usize;
        let mut values = vec![0.0; (rows.end - rows.start) as usize * cols];
        let bytes = self.bytes(id, rows)?;
        let row_bytes = (tensor.bytes / tensor.rows()) as usize;
        for (row, values) in bytes.chunks_exact(row_bytes).zip(values.chunks_exact_mut(cols)) {
            blocks::decode_row(tensor.dtype, row, values)?;
        }
        Ok(values)
    }
}

/// A GGUF file's pairs, without those that speak of the file itself.
fn carried(metadata: &Metadata) -> Metadata {
    let mut kept = Metadata::default();
    for (key, value) in metadata.iter().filter(|(key, _)| !key.starts_with("split.") && *key != "general.alignment") {
        kept.insert(key, value.clone());
    }
    kept
}

/// The pairs of a GGUF file for a model that came without.
pub(super) fn described(config: &ModelConfig) -> Metadata {
    let mut metadata = Metadata::default();
    // Helium's preview differs from a Llama-class model only in which rows are pairs, and those are adjacent here.
    metadata.insert("general.architecture", Value::Str("llama".into()));
    for (key, value) in [
        ("block_count", config.n_layers),
        ("context_length", config.context_length),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.n_heads),
        ("attention.head_count_kv", config.n_kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.head_dim),
        ("vocab_size", config.vocab_size),
    ] {
        metadata.insert(format!("llama.{key}"), Value::Uint(value as u64));
    }
    let last = config.eos_token_ids.first().copied();
    for (key, id) in [("bos", config.bos_token_id), ("eos", last)] {
        if let Some(id) = id {
            metadata.insert(format!("tokenizer.ggml.{key}_token_id"), Value::Uint(id.into()));
        }
    }
    metadata.insert("llama.rope.freq_base", Value::F32(config.rope_theta as f32));
    metadata.insert("llama.attention.layer_norm_rms_epsilon", Value::F32(config.norm_eps));
    metadata
}
