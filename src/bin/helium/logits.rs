//! `helium logits`: tokens enter, a .npy file with the logits at each of them leaves, or with an activation on the way.

use std::ops::ControlFlow;
use std::path::PathBuf;

use helium_webgpu::new_file::NewFile;
use helium_webgpu::score::{activation, visit_logits};

use crate::args::{GpuArgs, Input, ModelArgs};
use crate::output;

/// Write the logits at every position to a .npy file, float32 [n, vocab], or with --tap an activation, float32 [n, width].
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    input: Input,
    /// The .npy file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write this activation instead: embedding, or of layer N layers.N.queries (rotated), layers.N.attention (before the
    /// output projection), layers.N.middle (after attention), layers.N.mlp (before down) or layers.N.output
    #[arg(long, value_name = "NAME")]
    tap: Option<String>,
    #[command(flatten)]
    gpu: GpuArgs,
}

impl Args {
    pub(crate) fn run(self) -> output::Result<()> {
        pollster::block_on(async {
            let files = self.model.find()?;
            self.model.check_apart(&files, &self.out)?;
            let (ids, _) = self.input.resolve(&self.model, &files)?;
            // Before the work: a folder that cannot be written should not cost it.
            let mut file = NewFile::create(&self.out)?;
            let mut model = self.gpu.load(&files).await?;
            if let Some(name) = &self.tap {
                let (values, width) = activation(&mut model, &ids, name).await?;
                file.write(&npy_header(ids.len(), width))?;
                file.write(&little_endian(&values))?;
            } else {
                file.write(&npy_header(ids.len(), model.config().vocab_size))?;
                visit_logits(&mut model, &ids, |_, row| file.write(&little_endian(row)).map(ControlFlow::Continue))
                    .await?;
            }
            Ok(file.keep()?)
        })
    }
}

/// The header of a file in `NumPy`'s format 1.0 with float32 `[n_rows, n_cols]`: magic and version, the length of
/// what follows, a Python dictionary, and spaces up to a newline that ends a multiple of 64 bytes.
/// Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
fn npy_header(n_rows: usize, n_cols: usize) -> Vec<u8> {
    const PREFIX_BYTES: usize = 10;
    let mut dictionary = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({n_rows}, {n_cols}), }}");
    let len = (PREFIX_BYTES + dictionary.len() + 1).next_multiple_of(64) - PREFIX_BYTES;
    dictionary += &" ".repeat(len - 1 - dictionary.len());
    dictionary.push('\n');
    // Two numbers of at most 20 digits leave it far below 65,536 bytes.
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((len as u16).to_le_bytes());
    header.extend(dictionary.into_bytes());
    header
}

/// Numbers as bytes: a .npy file says that it is little-endian, whatever this machine is.
fn little_endian(row: &[f32]) -> Vec<u8> {
    row.iter().flat_map(|value| value.to_le_bytes()).collect()
}
