//! `helium soup`: models of one shape enter, their weighted average leaves as one GGUF file.

use std::path::PathBuf;

use helium_webgpu::convert::{Checkpoint, Soup, sum_of};

use crate::args::ModelArgs;
use crate::output::{Failure, Result};
use crate::quantize::{OutArgs, open};

/// Average models of one shape, such as Helium's specialists, into one GGUF file.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The models, each a GGUF file or a folder; the vocabulary is the first one's
    #[arg(required = true, num_args = 2.., value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// A weight for each model, relative to one another [default: all alike]
    #[arg(long, value_name = "W,…", value_delimiter = ',', allow_hyphen_values = true)]
    weights: Vec<f64>,
    #[command(flatten)]
    out: OutArgs,
}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let n_models = self.models.len();
        let weights = if self.weights.is_empty() { vec![1.0; n_models] } else { self.weights };
        if weights.len() != n_models {
            return Err(Failure::Usage(format!("--weights has {} numbers for {n_models} models", weights.len())));
        }
        sum_of(&weights).map_err(|error| Failure::Usage(error.to_string()))?;
        let mut checkpoints = Vec::new();
        for path in self.models {
            let name = path.display().to_string();
            let model = ModelArgs::new(path, None);
            let files = model.find()?;
            model.check_apart(&files, &self.out.out)?;
            let checkpoint = if checkpoints.is_empty() { open(&model, &files)? } else { Checkpoint::open(&files)? };
            checkpoints.push((name, checkpoint));
        }
        self.out.write(&Soup::new(checkpoints, &weights)?)
    }
}
