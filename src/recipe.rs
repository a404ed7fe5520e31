//! What weights are quantised to: a recipe and a weight's place enter, its type leaves.
//!
//! Which weights a mixture keeps in more bits follows llama.cpp's mixtures of the same names, so that files are
//! alike in size and quality. Source: the types of tensors in files that `llama-quantize` wrote.

use std::str::FromStr;

use crate::config::{LayerWeight, ModelConfig, WeightId};
use crate::error::Error;
use crate::format::{Dtype, TensorInfo};

/// A way to quantise a model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recipe {
    /// Every matrix in F16.
    F16,
    /// Every matrix in `Q8_0`.
    Q8_0,
    /// Every matrix in `Q4_0`, but the output projection in `Q6_K`.
    Q4_0,
    /// Most matrices in `Q4_K`; the output projection, and V and down of half of the layers, in `Q6_K`.
    Q4KM,
    /// Every matrix in `Q6_K`.
    Q6K,
}

impl Recipe {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::F16, Self::Q8_0, Self::Q4_0, Self::Q4KM, Self::Q6K];

    /// The name in options, such as `"q4_k_m"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4KM => "q4_k_m",
            Self::Q6K => "q6_k",
        }
    }

    /// GGUF's `general.file_type`.
    #[must_use]
    pub const fn file_type(self) -> u32 {
        match self {
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q4KM => 15,
            Self::Q6K => 18,
        }
    }

    /// What the weight `id`, a matrix that `tensor` holds, becomes. Norms stay as they are, and so does what has
    /// rows of no whole blocks of any type.
    #[must_use]
    pub fn dtype(self, config: &ModelConfig, id: WeightId, tensor: &TensorInfo) -> Dtype {
        if tensor.shape.len() < 2 {
            return tensor.dtype;
        }
        let is_output = match id {
            WeightId::Output => true,
            WeightId::TokenEmbedding => config.tie_word_embeddings,
            _ => false,
        };
        let wanted = match self {
            Self::F16 => return Dtype::F16,
            Self::Q8_0 => Dtype::Q8_0,
            Self::Q6K => Dtype::Q6K,
            Self::Q4_0 | Self::Q4KM if is_output => Dtype::Q6K,
            Self::Q4_0 => Dtype::Q4_0,
            Self::Q4KM => match id {
                WeightId::Layer(layer, LayerWeight::V | LayerWeight::Down)
                    if wants_more_bits(layer, config.n_layers) =>
                {
                    Dtype::Q6K
                }
                _ => Dtype::Q4K,
            },
        };
        // Rows that are not whole blocks take the next larger type of shorter ones.
        let shorter = match wanted {
            Dtype::Q4K => Dtype::Q5_0,
            _ => Dtype::Q8_0,
        };
        [wanted, shorter].into_iter().find(|dtype| dtype.row_bytes(tensor.cols()).is_some()).unwrap_or(tensor.dtype)
    }
}

impl FromStr for Recipe {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|recipe| recipe.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::InvalidArgument(format!("{name:?} is no type to quantise to; expected one of {names}"))
        })
    }
}

/// The layers whose V and down are most worth it: the first and last eighth, and every third between.
fn wants_more_bits(layer: usize, n_layers: usize) -> bool {
    let eighth = n_layers / 8;
    layer < eighth || layer >= 7 * n_layers / 8 || (layer - eighth) % 3 == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_more_bits_are_those_of_published_files() {
        let layers: Vec<usize> = (0..28).filter(|layer| wants_more_bits(*layer, 28)).collect();
        assert_eq!(layers, [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27]);
    }

    #[test]
    fn names_are_read_back() {
        for recipe in Recipe::ALL {
            assert_eq!(recipe.name().parse::<Recipe>().ok(), Some(recipe));
        }
        let error = "q9".parse::<Recipe>().map_err(|error| error.to_string());
        assert!(error.is_err_and(|text| text.contains("q9") && text.contains("q4_k_m")));
    }
}
