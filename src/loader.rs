//! The one loader: bytes of model files enter in order and in any portions, repacked rows go to the device,
//! a [`Model`] leaves. Files, fetches and blobs all come through here.
//!
//! Nothing holds a whole file, nor a whole tensor: at most the header, one unit of rows (a row, or a head
//! whose rows are interleaved) and the repacked rows of one write are in memory.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;

use crate::config::{ModelConfig, WeightId};
use crate::error::{Error, Result};
use crate::format::gguf::Metadata;
use crate::format::repack::Layout;
use crate::format::{Dtype, Progress, TensorInfo, blocks, parse_header};
use crate::gpu::Gpu;
use crate::gpu::device::{Guard, Mark};
use crate::gpu::tensor::Piece;
pub use crate::model::blueprint::LoadOptions;
use crate::model::blueprint::{Blueprint, Destination, Span};
use crate::model::compile;
use crate::model::tuning::Cores;
use crate::model::{Cache, Kernels, Model, Tuning, Weights};

/// Bytes of file rows that are repacked and written together, about.
const RUN_BYTES: usize = 1 << 20;

/// Loads a model file by file.
///
/// For safetensors give the configuration first ([`Loader::set_config`]); a GGUF file brings its own. Then, for
/// every file: [`Loader::begin_file`], [`Loader::push`] until its end, [`Loader::end_file`]. At last
/// [`Loader::finish`]. After an error the loader is of no more use.
#[derive(Debug)]
pub struct Loader {
    gpu: Rc<Gpu>,
    /// Failures since the last flush; always there but within one.
    guard: Option<Guard>,
    blueprint: Blueprint,
    weights: Weights,
    /// Allocated with the first weights: a device without room for it says so before the rest is fetched.
    cache: Option<Cache>,
    cores: Cores,
    /// What is left to do for the kernels of what was allocated.
    kernels: KernelStage,
    /// What the device was given last.
    under_way: Option<UnderWay>,
    file: Option<File>,
}

/// How far the kernels are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum KernelStage {
    /// Matrices were allocated for which they are to be chosen.
    New,
    /// The candidates are being compiled.
    Compiling,
    /// Chosen.
    Chosen,
}

/// Weights on their way to the device.
struct UnderWay {
    mark: Mark,
    /// What the device found wrong with it.
    failures: Option<Pin<Box<dyn Future<Output = Result<()>>>>>,
}

impl fmt::Debug for UnderWay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mark.fmt(formatter)
    }
}

/// The file under way.
#[derive(Debug)]
struct File {
    name: String,
    size: Option<u64>,
    /// Bytes used so far: the position in the file.
    pos: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The beginning of the file, until it holds the header; not tried again before it has so many bytes.
    Header { bytes: Vec<u8>, needed: u64 },
    /// Tensors in the order of the file; those before `next` are done.
    Tensors { tensors: Vec<(TensorInfo, Destination)>, next: usize, rows: Box<Rows> },
}

/// The rows of the tensor under way.
#[derive(Debug, Default)]
struct Rows {
    /// The next row of the tensor.
    row: usize,
    /// The beginning of a unit whose end has not come yet.
    partial: Vec<u8>,
    quants: Vec<u32>,
    aux: Vec<u32>,
    /// A row as numbers, and quantised.
    values: Vec<f32>,
    encoded: Vec<u8>,
}

impl Loader {
    /// A loader that has seen nothing.
    #[must_use]
    pub fn new(gpu: Rc<Gpu>, options: LoadOptions) -> Self {
        let guard = Some(gpu.guard());
        let blueprint = Blueprint::new(gpu.limits(), options);
        let cores = Cores::new(&gpu, options.kernels, Tuning::default());
        let weights = Weights::default();
        let kernels = KernelStage::Chosen;
        Self { gpu, guard, blueprint, weights, cache: None, cores, kernels, under_way: None, file: None }
    }

    /// Gives what an earlier load found out about this device, so that this one need not measure.
    pub fn set_tuning(&mut self, tuning: Tuning) {
        self.cores = Cores::new(&self.gpu, self.blueprint.kernels(), tuning);
    }

    /// Gives the configuration of the safetensors files to come.
    pub fn set_config(&mut self, config: ModelConfig) {
        self.blueprint.set_config(config);
    }

    /// A GGUF file's metadata, once its header has been read.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.blueprint.metadata()
    }

    /// Begins a file. With its `size` in bytes, a truncated one is noticed at once.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when the last file was not ended.
    pub fn begin_file(&mut self, name: &str, size: Option<u64>) -> Result<()> {
        if let Some(file) = &self.file {
            return Err(Error::Internal(format!("{name} began before {} ended", file.name)));
        }
        let stage = Stage::Header { bytes: Vec::new(), needed: 0 };
        self.file = Some(File { name: name.into(), size, pos: 0, stage });
        Ok(())
    }

    /// Takes the next bytes of the file, and queues what they hold for the device.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] and [`Error::UnsupportedModel`] for a file that cannot be loaded,
    /// [`Error::OutOfMemory`] for a row that no binding of the device holds.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let mut file = self.file.take().ok_or_else(|| Error::Internal("bytes came before a file began".into()))?;
        self.push_to(&mut file, bytes)?;
        self.file = Some(file);
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when it ended too early; and as [`Loader::push`].
    pub fn end_file(&mut self) -> Result<()> {
        let mut file = self.file.take().ok_or_else(|| Error::Internal("a file ended that did not begin".into()))?;
        if let Stage::Header { bytes, .. } = &file.stage {
            // Its size is known now: the parser says what is wrong with a header that ends here.
            file.size = Some(bytes.len() as u64);
            self.parse(&mut file)?;
        }
        let name = &file.name;
        match &file.stage {
            Stage::Header { bytes, needed } => Err(Error::Corrupt(format!(
                "{name} is truncated: its header needs {needed} bytes but the file has {}; download it again",
                bytes.len()
            ))),
            Stage::Tensors { tensors, next, .. } => match tensors.get(*next) {
                None => Ok(()),
                Some((tensor, _)) => Err(Error::Corrupt(format!(
                    "{name} is truncated: tensor {:?} ends at byte {} but the file has {} bytes; download it again",
                    tensor.name,
                    tensor.end(),
                    file.pos
                ))),
            },
        }
    }

    /// Hands what was pushed to the device, and waits until it has taken what was handed to it before: what is under
    /// way takes memory outside the device, so call it every few dozen MB.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] and what else the device reported.
    pub async fn flush(&mut self) -> Result<()> {
        // Writes are only submitted with a command buffer, were it an empty one.
        let submission = self.gpu.queue.submit([]);
        let mark = self.gpu.mark(Some(submission));
        let failures =
            self.guard.take().map(|guard| Box::pin(guard.end()) as Pin<Box<dyn Future<Output = Result<()>>>>);
        self.guard = Some(self.gpu.guard());
        let before = self.under_way.replace(UnderWay { mark, failures });
        self.wait_for(before).await?;
        if self.kernels == KernelStage::New {
            self.cores.prepare(&self.gpu, &self.blueprint, &self.weights)?;
            self.kernels = KernelStage::Compiling;
        }
        if self.kernels == KernelStage::Compiling && !self.gpu.is_compiling() {
            self.choose_kernels().await?;
        }
        Ok(())
    }

    /// Measures which kernels are fastest, and has them compiled while weights are on their way.
    async fn choose_kernels(&mut self) -> Result<()> {
        self.gpu.wait().await?;
        // A kernel that a device refuses is no reason not to run the model with others.
        let guard = self.gpu.guard();
        let measured = self.cores.measure(&self.gpu, &self.blueprint, &self.weights).await;
        if guard.finish().await.and(measured).is_err() {
            self.gpu.check()?;
            self.cores = Cores::new(&self.gpu, Kernels::Baseline, self.cores.tuning().clone());
        }
        self.kernels = KernelStage::Chosen;
        compile(&self.gpu, &self.blueprint, &self.cores)
    }

    async fn wait_for(&self, under_way: Option<UnderWay>) -> Result<()> {
        let Some(UnderWay { mark, failures }) = under_way else { return Ok(()) };
        self.gpu.wait_for(mark).await?;
        match failures {
            Some(failures) => failures.await,
            None => Ok(()),
        }
    }

    /// Checks that no weight is missing, and plans the model.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when weights are missing, [`Error::Internal`] when the last file was not ended; and what the
    /// device reported.
    pub async fn finish(mut self) -> Result<Model> {
        if let Some(file) = &self.file {
            return Err(Error::Internal(format!("the model was finished before {} ended", file.name)));
        }
        self.flush().await?;
        let last = self.under_way.take();
        self.wait_for(last).await?;
        self.blueprint.check_complete()?;
        if self.kernels != KernelStage::Chosen {
            self.gpu.compiled().await;
            self.choose_kernels().await?;
        }
        drop(self.guard.take());
        // From here on the weights are the model's.
        let weights = std::mem::take(&mut self.weights);
        let cache = self.cache.take().ok_or_else(|| Error::Internal("there is no KV cache".into()))?;
        Model::new(Rc::clone(&self.gpu), &self.blueprint, &weights, cache, &self.cores).await
    }

    fn push_to(&mut self, file: &mut File, bytes: &[u8]) -> Result<()> {
        let Stage::Header { bytes: head, needed } = &mut file.stage else {
            return self.push_tensors(file, bytes);
        };
        head.extend_from_slice(bytes);
        if (head.len() as u64) < *needed { Ok(()) } else { self.parse(file) }
    }

    /// Parses the header and, if it is whole, makes room for the tensors and takes what came of them.
    fn parse(&mut self, file: &mut File) -> Result<()> {
        let Stage::Header { bytes, needed } = &mut file.stage else { return Ok(()) };
        match parse_header(&file.name, bytes, file.size)? {
            Progress::NeedMore(more) => {
                // Every attempt begins anew. Without the file's size the parser asks for the least it needs, so wait
                // for twice as much as did not suffice: `end_file` tries again where the file has less.
                *needed = if file.size.is_some() { more } else { more.max(2 * bytes.len() as u64) };
                Ok(())
            }
            Progress::Done(header) => {
                let head = std::mem::take(bytes);
                let is_gguf = !header.metadata.is_empty();
                let tensors = self.blueprint.add(header)?;
                if is_gguf {
                    // No other file follows, and the weights need not be fetched to find some missing.
                    self.blueprint.check_complete()?;
                }
                self.kernels = KernelStage::New;
                // First of all, since a browser's GPU process compiles beside what it does in order.
                if self.cores.settle(&self.gpu, &self.blueprint) {
                    compile(&self.gpu, &self.blueprint, &self.cores)?;
                    self.kernels = KernelStage::Chosen;
                }
                self.allocate()?;
                file.stage = Stage::Tensors { tensors, next: 0, rows: Box::default() };
                self.push_tensors(file, &head)
            }
        }
    }

    /// Allocates what the blueprint has and the device not yet.
    fn allocate(&mut self) -> Result<()> {
        self.weights.allocate(&self.gpu, &self.blueprint)?;
        if self.cache.is_none() {
            self.cache = Some(Cache::new(&self.gpu, self.blueprint.config()?, self.blueprint.context_length()?));
        }
        Ok(())
    }

    fn push_tensors(&self, file: &mut File, mut bytes: &[u8]) -> Result<()> {
        let Stage::Tensors { tensors, next, rows } = &mut file.stage else { return Ok(()) };
        while let Some((tensor, destination)) = tensors.get(*next) {
            // What lies between tensors is padding.
            let gap = tensor.offset.saturating_sub(file.pos).min(bytes.len() as u64);
            bytes = &bytes[gap as usize..];
            file.pos += gap;
            if bytes.is_empty() {
                return Ok(());
            }
            let here = (tensor.end() - file.pos).min(bytes.len() as u64);
            let (mine, rest) = bytes.split_at(here as usize);
            self.push_tensor(&file.name, tensor, destination, rows, mine)?;
            bytes = rest;
            file.pos += here;
            if file.pos == tensor.end() {
                rows.row = 0;
                *next += 1;
            }
        }
        file.pos += bytes.len() as u64;
        Ok(())
    }

    fn push_tensor(
        &self,
        file: &str,
        tensor: &TensorInfo,
        destination: &Destination,
        rows: &mut Rows,
        mut bytes: &[u8],
    ) -> Result<()> {
        let n_units_rows = match destination {
            Destination::Skip => return Ok(()),
            Destination::Norm(_) => 1,
            Destination::Rows { unit, .. } => *unit,
        };
        let row_bytes = (tensor.bytes / tensor.rows()) as usize;
        let unit_bytes = row_bytes * n_units_rows;
        if !rows.partial.is_empty() {
            let (mine, rest) = bytes.split_at(bytes.len().min(unit_bytes - rows.partial.len()));
            rows.partial.extend_from_slice(mine);
            bytes = rest;
            if rows.partial.len() < unit_bytes {
                return Ok(());
            }
            let unit = std::mem::take(&mut rows.partial);
            self.write_units(file, tensor, destination, rows, &unit)?;
        }
        let run_bytes = unit_bytes * (RUN_BYTES / unit_bytes).max(1);
        let whole = bytes.len() / unit_bytes * unit_bytes;
        for run in bytes[..whole].chunks(run_bytes) {
            self.write_units(file, tensor, destination, rows, run)?;
        }
        rows.partial.extend_from_slice(&bytes[whole..]);
        Ok(())
    }

    /// Writes whole units of rows.
    fn write_units(
        &self,
        file: &str,
        tensor: &TensorInfo,
        destination: &Destination,
        rows: &mut Rows,
        bytes: &[u8],
    ) -> Result<()> {
        match destination {
            Destination::Skip => Ok(()),
            Destination::Norm(id) => self.write_norm(file, tensor, *id, bytes),
            Destination::Rows { matrix, spans, unit, dtype } => {
                let to = Target { matrix: self.weights.matrix(*matrix), spans, unit: *unit, dtype: *dtype };
                self.write_rows(file, tensor, &to, rows, bytes)
            }
        }
    }

    fn write_norm(&self, file: &str, tensor: &TensorInfo, id: WeightId, bytes: &[u8]) -> Result<()> {
        let mut values = vec![0.0; tensor.cols() as usize];
        blocks::decode_row(tensor.dtype, bytes, &mut values)?;
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            let name = &tensor.name;
            return Err(Error::Corrupt(format!("{file}: tensor {name:?} holds {value}; download it again")));
        }
        self.weights.write_norm(&self.gpu, id, &values)
    }

    fn write_rows(
        &self,
        file: &str,
        tensor: &TensorInfo,
        to: &Target,
        rows: &mut Rows,
        mut bytes: &[u8],
    ) -> Result<()> {
        let row_bytes = (tensor.bytes / tensor.rows()) as usize;
        while let Some(span) = to.spans.iter().find(|span| span.rows.contains(&rows.row))
            && !bytes.is_empty()
        {
            let n_rows = (bytes.len() / row_bytes).min(span.rows.end - rows.row);
            let (mine, rest) = bytes.split_at(n_rows * row_bytes);
            rows.quants.clear();
            rows.aux.clear();
            for unit_bytes in mine.chunks(to.unit * row_bytes) {
                for i in 0..to.unit {
                    let row = interleaved(i, to.unit);
                    let row = &unit_bytes[row * row_bytes..(row + 1) * row_bytes];
                    rows.repack(tensor, to.dtype, row).map_err(|error| match error {
                        Error::Corrupt(why) => Error::Corrupt(format!("{file}: tensor {:?}: {why}", tensor.name)),
                        error => error,
                    })?;
                }
            }
            let piece = &to.matrix[span.piece];
            let piece_row = span.piece_row + rows.row - span.rows.start;
            piece.write_rows(&self.gpu, piece_row, &rows.quants, &rows.aux);
            rows.row += n_rows;
            bytes = rest;
        }
        Ok(())
    }
}

impl Drop for Loader {
    /// A load that failed leaves nothing on the device: another one may follow.
    fn drop(&mut self) {
        self.weights.destroy(&self.gpu);
        self.cache.iter().for_each(|cache| cache.destroy(&self.gpu));
    }
}

impl Rows {
    /// Appends a row in the device's layout, quantised if `dtype` is not the file's.
    fn repack(&mut self, tensor: &TensorInfo, dtype: Dtype, row: &[u8]) -> Result<()> {
        let cols = tensor.cols() as usize;
        let layout = Layout::new(dtype, cols);
        if dtype == tensor.dtype {
            layout.repack_row(row, &mut self.quants, &mut self.aux);
            return Ok(());
        }
        self.values.resize(cols, 0.0);
        self.encoded.clear();
        blocks::decode_row(tensor.dtype, row, &mut self.values)?;
        blocks::encode_row(dtype, &self.values, &mut self.encoded)?;
        layout.repack_row(&self.encoded, &mut self.quants, &mut self.aux);
        Ok(())
    }
}

/// Where rows go: [`Destination::Rows`], with the pieces.
struct Target<'a> {
    matrix: &'a [Piece],
    spans: &'a [Span],
    unit: usize,
    dtype: Dtype,
}

/// The row of a head that becomes row `i` when pairs (j, j + n / 2) are to be neighbours: 2j + s comes from
/// s · n / 2 + j.
pub(crate) fn interleaved(i: usize, n: usize) -> usize {
    if n == 1 { 0 } else { i % 2 * (n / 2) + i / 2 }
}
