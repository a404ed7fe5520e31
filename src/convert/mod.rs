//! Model files made of others, or of nothing: any [`Source`] of weights enters, a GGUF file leaves. Native only.
//!
//! Weights pass through in runs of rows, decoded and encoded by all cores; what already has its type is copied.

mod checkpoint;
mod soup;
mod synth;

use std::ops::Range;
use std::path::Path;
use std::thread;

pub use checkpoint::Checkpoint;
pub use soup::{Soup, sum_of};
pub use synth::{Preset, Synth};

use crate::config::{ModelConfig, WeightId};
use crate::error::{Error, Result};
use crate::format::gguf::{Metadata, Value};
use crate::format::gguf_writer::{ALIGNMENT, header};
use crate::format::{Dtype, TensorInfo, blocks};
use crate::new_file::NewFile;
use crate::recipe::Recipe;

/// Weights of a run of rows that one thread works on, about: 4 MiB as f32.
const RUN_WEIGHTS: usize = 1 << 20;

/// Weights by their place in the model, with the heads' pairs adjacent, as GGUF files have them.
pub trait Source: Sync {
    /// What the model looks like.
    fn config(&self) -> &ModelConfig;

    /// What else a file of it should say, its vocabulary above all.
    fn metadata(&self) -> &Metadata;

    /// The type in which [`Source::bytes`] gives a weight; `None` where only values are there.
    fn dtype(&self, id: WeightId) -> Option<Dtype>;

    /// Rows as they are stored.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for what cannot be read, [`Error::Internal`] where [`Source::dtype`] is `None`.
    fn bytes(&self, id: WeightId, rows: Range<u64>) -> Result<Vec<u8>>;

    /// Rows as numbers.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for what cannot be read, [`Error::Corrupt`] for weights that contradict one another.
    fn values(&self, id: WeightId, rows: Range<u64>) -> Result<Vec<f32>>;
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// Bytes of the file.
    pub bytes: u64,
    /// Its tensors.
    pub tensors: Vec<TensorInfo>,
}

/// Writes a model to the GGUF file `path`, which is replaced only when all went well. `progress` is told how many
/// weights of how many are done.
///
/// # Errors
///
/// [`Error::Io`] for a file that cannot be written, [`Error::Corrupt`] for weights that the types cannot hold, and what
/// the source reports.
pub fn write(source: &dyn Source, recipe: Recipe, path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Written> {
    let config = source.config();
    let ids = config.required();
    let tensors = ids.iter().map(|id| tensor(source, recipe, *id)).collect();
    let mut metadata = source.metadata().clone();
    metadata.insert("general.file_type", Value::Uint(u64::from(recipe.file_type())));
    metadata.insert("general.quantization_version", Value::Uint(2));
    let (header, head) = header(&path.display().to_string(), metadata, tensors);

    let mut out = Out { file: NewFile::create(path)?, n_bytes: 0 };
    out.write(&head)?;
    let total = config.parameters();
    let mut done = 0;
    for (id, tensor) in ids.iter().zip(&header.tensors) {
        out.pad()?;
        let run_rows = (RUN_WEIGHTS as u64 / tensor.cols()).max(1);
        let n_threads = thread::available_parallelism().map_or(1, usize::from) as u64;
        for start in (0..tensor.rows()).step_by((run_rows * n_threads) as usize) {
            let runs: Vec<Range<u64>> = (start..tensor.rows().min(start + run_rows * n_threads))
                .step_by(run_rows as usize)
                .map(|first| first..tensor.rows().min(first + run_rows))
                .collect();
            let encoded: Vec<Result<Vec<u8>>> = thread::scope(|scope| {
                let workers: Vec<_> =
                    runs.iter().map(|rows| scope.spawn(|| encode(source, *id, tensor, rows.clone()))).collect();
                let broken = || Err(Error::Internal("a thread that encoded weights ended early".into()));
                workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| broken())).collect()
            });
            for bytes in encoded {
                out.write(&bytes?)?;
            }
            done += runs.iter().map(|rows| (rows.end - rows.start) * tensor.cols()).sum::<u64>();
            progress(done, total);
        }
    }
    out.file.keep()?;
    Ok(Written { bytes: header.data_end, tensors: header.tensors })
}

/// What the weight `id` becomes in the file.
fn tensor(source: &dyn Source, recipe: Recipe, id: WeightId) -> TensorInfo {
    let config = source.config();
    let shape = config.shape(id);
    // Without blocks, so that any row will do until the recipe has chosen.
    let given = source.dtype(id).unwrap_or(Dtype::F32);
    let mut tensor = TensorInfo { name: id.to_string(), dtype: given, shape, offset: 0, bytes: 0 };
    tensor.dtype = if tensor.shape.len() < 2 { Dtype::F32 } else { recipe.dtype(config, id, &tensor) };
    tensor.bytes = tensor.dtype.row_bytes(tensor.cols()).unwrap_or(0) * tensor.rows();
    tensor
}

fn encode(source: &dyn Source, id: WeightId, tensor: &TensorInfo, rows: Range<u64>) -> Result<Vec<u8>> {
    if source.dtype(id) == Some(tensor.dtype) {
        return source.bytes(id, rows);
    }
    let values = source.values(id, rows)?;
    let mut bytes = Vec::new();
    for row in values.chunks_exact(tensor.cols() as usize) {
        blocks::encode_row(tensor.dtype, row, &mut bytes).map_err(|error| match error {
            Error::Corrupt(why) => Error::Corrupt(format!("tensor {:?}: {why}", tensor.name)),
            error => error,
        })?;
    }
    Ok(bytes)
}

/// A GGUF file on its way out, and how much of it there is.
struct Out {
    file: NewFile,
    n_bytes: u64,
}

impl Out {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.n_bytes += bytes.len() as u64;
        self.file.write(bytes)
    }

    fn pad(&mut self) -> Result<()> {
        let n_bytes = self.n_bytes.next_multiple_of(ALIGNMENT) - self.n_bytes;
        self.write(&[0; ALIGNMENT as usize][..n_bytes as usize])
    }
}
