//! `helium synth`: the name of a model enters, random weights of its shapes leave as a GGUF file.

use helium_webgpu::convert::{Preset, Synth};

use crate::args::positive;
use crate::output::{Failure, Result};
use crate::quantize::OutArgs;

/// Write random weights of a model's real shapes, to test loading and speed: the text they give is noise.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Whose shapes
    #[arg(long, value_name = "helium-1-2b|helium-1-preview-2b")]
    preset: Preset,
    /// Fewer layers than the model has
    #[arg(long, value_name = "N", value_parser = positive, allow_negative_numbers = true)]
    layers: Option<usize>,
    /// Equal seeds give equal weights
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    #[command(flatten)]
    out: OutArgs,
}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let mut config = self.preset.config();
        let n_layers = self.layers.unwrap_or(config.n_layers);
        if n_layers > config.n_layers {
            let (name, most) = (self.preset.name(), config.n_layers);
            return Err(Failure::Usage(format!("--layers: {name} has {most} layers, not {n_layers}")));
        }
        config.n_layers = n_layers;
        self.out.write(&Synth::new(self.preset.name(), config, self.seed))
    }
}
