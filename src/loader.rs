//! The one loader: bytes of model files enter in order and in any portions, repacked rows go to the device,
//! a [`Model`] leaves. Files, fetches and blobs all come through here.
//!
//! Nothing holds a whole file, nor a whole tensor: at most the header, one unit of rows (a row, or a head
//! whose rows are interleaved) and the repacked rows of one write are in memory.

use std::rc::Rc;

use crate::config::{ModelConfig, WeightId};
use crate::error::{Error, Result};
use crate::format::gguf::Metadata;
use crate::format::repack::Layout;
use crate::format::{Header, Progress, TensorInfo, blocks, parse_header};
use crate::gpu::Gpu;
use crate::gpu::device::Guard;
use crate::model::{Destination, MatrixId, Model, Span, Weights};

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
    config: Option<ModelConfig>,
    weights: Weights,
    metadata: Option<Metadata>,
    file: Option<File>,
    last_file: String,
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
    Tensors { header: Header, destinations: Vec<Destination>, next: usize, rows: Rows },
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
}

impl Loader {
    /// A loader that has seen nothing.
    #[must_use]
    pub fn new(gpu: Rc<Gpu>) -> Self {
        let guard = Some(gpu.guard());
        Self {
            gpu,
            guard,
            config: None,
            weights: Weights::default(),
            metadata: None,
            file: None,
            last_file: "the model".into(),
        }
    }

    /// Gives the configuration of the safetensors files to come.
    pub fn set_config(&mut self, config: ModelConfig) {
        self.config = Some(config);
    }

    /// The configuration: that given, or read from a GGUF header.
    #[must_use]
    pub fn config(&self) -> Option<&ModelConfig> {
        self.config.as_ref()
    }

    /// A GGUF file's metadata, once its header has been read.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
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
    /// [`Error::Corrupt`] when it ended too early.
    pub fn end_file(&mut self) -> Result<()> {
        let file = self.file.take().ok_or_else(|| Error::Internal("a file ended that did not begin".into()))?;
        let name = &file.name;
        match &file.stage {
            // The parser knows best what is wrong with a header that ends here.
            Stage::Header { bytes, .. } => match parse_header(name, bytes, Some(bytes.len() as u64))? {
                Progress::Done(_) => {}
                Progress::NeedMore(needed) => {
                    return Err(Error::Corrupt(format!(
                        "{name} is truncated: its header needs {needed} bytes but the file has {}; download it again",
                        bytes.len()
                    )));
                }
            },
            Stage::Tensors { header, next, .. } => {
                if let Some(tensor) = header.tensors.get(*next) {
                    return Err(Error::Corrupt(format!(
                        "{name} is truncated: tensor {:?} ends at byte {} but the file has {} bytes; download it again",
                        tensor.name,
                        tensor.end(),
                        file.pos
                    )));
                }
            }
        }
        self.last_file = file.name;
        Ok(())
    }

    /// Waits until the device has taken what was pushed: what is queued takes memory outside the device, so
    /// call it every few dozen MB.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] and what else the device reported.
    pub async fn flush(&mut self) -> Result<()> {
        // Writes are only submitted with a command buffer, were it an empty one.
        self.gpu.queue.submit([]);
        self.gpu.wait().await?;
        if let Some(guard) = self.guard.take() {
            guard.finish().await?;
        }
        self.guard = Some(self.gpu.guard());
        Ok(())
    }

    /// Checks that no weight is missing and plans the model, with a context of `context_length` tokens, or as
    /// many as it was trained for up to 4096.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when weights are missing, [`Error::Internal`] when the last file was not ended; what the
    /// device reported; and see the context.
    pub async fn finish(mut self, context_length: Option<usize>) -> Result<Model> {
        if let Some(file) = &self.file {
            return Err(Error::Internal(format!("the model was finished before {} ended", file.name)));
        }
        self.flush().await?;
        let Some(config) = self.config else {
            return Err(Error::Corrupt(format!("{}: no configuration was found", self.last_file)));
        };
        self.weights.check_complete(&config, &self.last_file)?;
        drop(self.guard);
        Model::new(self.gpu, config, &self.weights, context_length).await
    }

    fn push_to(&mut self, file: &mut File, bytes: &[u8]) -> Result<()> {
        let Stage::Header { bytes: head, needed } = &mut file.stage else {
            return self.push_tensors(file, bytes);
        };
        head.extend_from_slice(bytes);
        if (head.len() as u64) < *needed {
            return Ok(());
        }
        match parse_header(&file.name, head, file.size)? {
            Progress::NeedMore(more) => {
                *needed = more;
                Ok(())
            }
            Progress::Done(header) => {
                let head = std::mem::take(head);
                let destinations = self.begin_tensors(&header, &head)?;
                file.stage = Stage::Tensors { header, destinations, next: 0, rows: Rows::default() };
                self.push_tensors(file, &head)
            }
        }
    }

    fn push_tensors(&self, file: &mut File, mut bytes: &[u8]) -> Result<()> {
        let Stage::Tensors { header, destinations, next, rows } = &mut file.stage else { return Ok(()) };
        while let Some(tensor) = header.tensors.get(*next) {
            // What lies between tensors is padding.
            let gap = tensor.offset.saturating_sub(file.pos).min(bytes.len() as u64);
            bytes = &bytes[gap as usize..];
            file.pos += gap;
            if bytes.is_empty() {
                return Ok(());
            }
            let here = (tensor.end() - file.pos).min(bytes.len() as u64);
            let (mine, rest) = bytes.split_at(here as usize);
            self.push_tensor(&header.file, tensor, &destinations[*next], rows, mine)?;
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

    /// The header is there: read the configuration if it is a GGUF file's, and make room on the device.
    fn begin_tensors(&mut self, header: &Header, head: &[u8]) -> Result<Vec<Destination>> {
        let is_gguf = head.starts_with(b"GGUF");
        if is_gguf && self.metadata.is_none() {
            self.config = Some(ModelConfig::from_gguf(header)?);
            self.metadata = Some(header.metadata.clone());
        }
        let config = self.config.as_ref().ok_or_else(|| {
            Error::InvalidArgument(format!(
                "{}: safetensors hold no configuration; give the config.json that belongs to them",
                header.file
            ))
        })?;
        self.weights.allocate(&self.gpu, config, header)
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
            Destination::Rows { matrix, spans, unit } => {
                self.write_rows(tensor, *matrix, spans, *unit, rows, bytes);
                Ok(())
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
        tensor: &TensorInfo,
        matrix: MatrixId,
        spans: &[Span],
        unit: usize,
        rows: &mut Rows,
        mut bytes: &[u8],
    ) {
        let layout = Layout::new(tensor.dtype, tensor.cols() as usize);
        let row_bytes = (tensor.bytes / tensor.rows()) as usize;
        while let Some(span) = spans.iter().find(|span| span.rows.contains(&rows.row))
            && !bytes.is_empty()
        {
            let n_rows = (bytes.len() / row_bytes).min(span.rows.end - rows.row);
            let (mine, rest) = bytes.split_at(n_rows * row_bytes);
            rows.quants.clear();
            rows.aux.clear();
            for unit_bytes in mine.chunks(unit * row_bytes) {
                for i in 0..unit {
                    let row = interleaved(i, unit);
                    let row = &unit_bytes[row * row_bytes..(row + 1) * row_bytes];
                    layout.repack_row(row, &mut rows.quants, &mut rows.aux);
                }
            }
            let piece = &self.weights.matrix(matrix)[span.piece];
            let piece_row = span.piece_row + rows.row - span.rows.start;
            piece.write_rows(&self.gpu, piece_row, &rows.quants, &rows.aux);
            rows.row += n_rows;
            bytes = rest;
        }
    }
}

/// The row of a head that becomes row `i` when pairs (j, j + n / 2) are to be neighbours: 2j + s comes from
/// s · n / 2 + j.
fn interleaved(i: usize, n: usize) -> usize {
    if n == 1 { 0 } else { i % 2 * (n / 2) + i / 2 }
}
