//! Logits enter, the next id leaves: the sampler on the CPU, the reference for any other.
//!
//! The order: logit bias, repetition penalty, presence and frequency penalties, temperature, top-k, top-p,
//! min-p, draw. It knows ids and numbers, and neither text nor devices.

use std::collections::HashMap;

use crate::error::{Error, Result};

/// How the next token is chosen. The default draws from the 95% nucleus at temperature 0.7.
#[derive(Clone, PartialEq, Debug)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the most probable token. At least 0.
    pub temperature: f32,
    /// Keep the k most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the fewest most probable tokens whose probabilities sum to at least this, in (0, 1].
    pub top_p: f32,
    /// Keep tokens at least this fraction as probable as the most probable one, in [0, 1].
    pub min_p: f32,
    /// Logits of tokens in the prompt or the text so far are divided (if positive) or multiplied by it, as in
    /// CTRL (Keskar et al. 2019); 1 does nothing. Above 0.
    pub repetition_penalty: f32,
    /// Subtracted from the logits of tokens generated before.
    pub presence_penalty: f32,
    /// Subtracted from the logits of tokens generated before, once for every time.
    pub frequency_penalty: f32,
    /// Added to the logits of these ids.
    pub logit_bias: Vec<(u32, f32)>,
    /// Equal seeds draw equal numbers; a random one if absent.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.7,
            top_k: 0,
            top_p: 0.95,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

impl Sampling {
    /// Whether logits are changed before temperature and cuts.
    #[must_use]
    pub fn changes_logits(&self) -> bool {
        !self.logit_bias.is_empty()
            || self.repetition_penalty != 1.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
    }

    /// Checks every field's range.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] naming the first option outside its range.
    pub fn check(&self) -> Result<()> {
        let checks: [(&str, f32, bool, &str); 6] = [
            ("temperature", self.temperature, self.temperature >= 0.0, "a number of at least 0"),
            ("top-p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1"),
            ("min-p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1"),
            ("repetition penalty", self.repetition_penalty, self.repetition_penalty > 0.0, "a number above 0"),
            ("presence penalty", self.presence_penalty, true, "a number"),
            ("frequency penalty", self.frequency_penalty, true, "a number"),
        ];
        for (name, value, is_in_range, expected) in checks {
            if !is_in_range || !value.is_finite() {
                return Err(Error::InvalidArgument(format!("{name} must be {expected}; found {value}")));
            }
        }
        if let Some((id, bias)) = self.logit_bias.iter().find(|(_, bias)| !bias.is_finite()) {
            return Err(Error::InvalidArgument(format!("the logit bias of token {id} must be a number; found {bias}")));
        }
        Ok(())
    }
}

/// A chosen token.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Choice {
    /// The token.
    pub id: u32,
    /// Its log-probability under the model, before penalties, temperature and cuts.
    pub logprob: f32,
}

/// Chooses tokens for one text.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    seed: u64,
    n_drawn: u32,
    /// How often each token has been generated; 0 for tokens of the prompt alone.
    counts: HashMap<u32, u32>,
}

impl Sampler {
    /// A sampler for the continuation of `prompt_ids`, that draws from `seed`.
    ///
    /// # Errors
    ///
    /// As [`Sampling::check`].
    pub fn new(sampling: &Sampling, seed: u64, prompt_ids: &[u32]) -> Result<Self> {
        sampling.check()?;
        let counts = prompt_ids.iter().map(|id| (*id, 0)).collect();
        Ok(Self { sampling: sampling.clone(), seed, n_drawn: 0, counts })
    }

    /// Chooses the next token from the logits of all, `[vocab_size]`.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when a logit is not a number: the device computed nonsense.
    pub fn sample(&mut self, logits: &[f32]) -> Result<Choice> {
        let normaliser = log_sum_exp(logits)?;
        let id = if self.sampling.changes_logits() {
            let mut changed = logits.to_vec();
            self.penalise(&mut changed);
            self.choose(&changed)
        } else {
            self.choose(logits)
        };
        *self.counts.entry(id).or_default() += 1;
        Ok(Choice { id, logprob: (f64::from(logits[id as usize]) - normaliser) as f32 })
    }

    /// Notes a token that was chosen elsewhere, with a draw of its own.
    pub fn note(&mut self, id: u32) {
        *self.counts.entry(id).or_default() += 1;
        self.n_drawn += 1;
    }

    fn penalise(&self, logits: &mut [f32]) {
        let Sampling { repetition_penalty, presence_penalty, frequency_penalty, logit_bias, .. } = &self.sampling;
        for (id, bias) in logit_bias {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit += bias;
            }
        }
        for (id, count) in &self.counts {
            let Some(logit) = logits.get_mut(*id as usize) else { continue };
            *logit = if *logit > 0.0 { *logit / repetition_penalty } else { *logit * repetition_penalty };
            if *count > 0 {
                *logit -= presence_penalty + frequency_penalty * *count as f32;
            }
        }
    }

    fn choose(&mut self, logits: &[f32]) -> u32 {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        let best = argmax(logits);
        if temperature == 0.0 {
            return best;
        }
        let largest = logits[best as usize];
        // e^−30 of the best is beyond what a draw of 24 bits can tell from nothing.
        let mut kept: Vec<(u32, f32)> = (0..)
            .zip(logits)
            .map(|(id, logit)| (id, (logit - largest) / temperature))
            .filter(|(_, scaled)| *scaled >= -30.0)
            .collect();
        // Equal logits in the order of ids: the order must not depend on the sort.
        kept.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if top_k > 0 {
            kept.truncate(top_k);
        }
        let weights: Vec<f64> = kept.iter().map(|(_, scaled)| f64::from(*scaled).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut n_kept = 0;
        let mut mass = 0.0;
        for weight in &weights {
            if n_kept > 0 && (mass >= f64::from(top_p) * sum || *weight < f64::from(min_p)) {
                break;
            }
            mass += weight;
            n_kept += 1;
        }
        let mut rest = uniform(self.seed, self.n_drawn) * mass;
        self.n_drawn += 1;
        for ((id, _), weight) in kept.iter().zip(&weights).take(n_kept) {
            rest -= weight;
            if rest < 0.0 {
                return *id;
            }
        }
        // Rounding can leave a rest after the last token kept.
        kept[n_kept - 1].0
    }
}

/// The first of the largest.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in (0..).zip(logits) {
        if *logit > logits[best as usize] {
            best = id;
        }
    }
    best
}

/// `log Σ e^logit`, in f64.
///
/// # Errors
///
/// [`Error::Internal`] when there are no logits, or one is not finite.
pub fn log_sum_exp(logits: &[f32]) -> Result<f64> {
    if let Some(position) = logits.iter().position(|logit| !logit.is_finite()) {
        return Err(Error::Internal(format!(
            "the logit of token {position} is {}: the weights are damaged or the GPU computed nonsense; load the \
             model again",
            logits[position]
        )));
    }
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if logits.is_empty() {
        return Err(Error::Internal("there are no logits".into()));
    }
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    Ok(f64::from(largest) + sum.ln())
}

/// The `n` most probable tokens and their log-probabilities, best first.
///
/// # Errors
///
/// As [`log_sum_exp`].
pub fn top_logprobs(logits: &[f32], n: usize) -> Result<Vec<(u32, f32)>> {
    let normaliser = log_sum_exp(logits)?;
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    let n = n.min(ranked.len());
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if n < ranked.len() {
        ranked.select_nth_unstable_by(n, order);
        ranked.truncate(n);
    }
    ranked.sort_unstable_by(order);
    Ok(ranked.into_iter().map(|(id, logit)| (id, (f64::from(logit) - normaliser) as f32)).collect())
}

/// The `n`-th uniform number of a seed, in [0, 1), with 24 bits: a hash of seed and n, so that any one can be had
/// without those before it, in 32-bit arithmetic alone.
#[must_use]
pub fn uniform(seed: u64, n: u32) -> f64 {
    let hash = pcg(seed as u32 ^ pcg((seed >> 32) as u32 ^ pcg(n)));
    f64::from(hash >> 8) / f64::from(1 << 24)
}

/// The output permutation of PCG-RXS-M-XS-32 on one step of its generator (Jarzynski and Olano, "Hash Functions
/// for GPU Rendering", 2020).
fn pcg(input: u32) -> u32 {
    let state = input.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = (state >> ((state >> 28) + 4) ^ state).wrapping_mul(277_803_737);
    word >> 22 ^ word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(sampling: &Sampling) -> Sampler {
        Sampler::new(sampling, 7, &[]).unwrap()
    }

    /// Shares of each id in 20,000 draws from the logits.
    fn shares(sampling: &Sampling, logits: &[f32]) -> Vec<f64> {
        let mut sampler = sampler(sampling);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.sample(logits).unwrap().id as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    // 20,000 draws of a share of one half deviate by 0.0035: 0.015 is four of these.
    fn assert_near(found: &[f64], expected: &[f64]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 0.015, "shares {found} and {expected} differ");
        }
    }

    const PLAIN: Sampling = Sampling {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        logit_bias: Vec::new(),
        seed: None,
    };

    /// Logits with probabilities 1/2, 1/4, 1/8, 1/8.
    fn halves() -> Vec<f32> {
        [0.25_f32, 0.5, 0.125, 0.125].map(f32::ln).to_vec()
    }

    #[test]
    fn draws_follow_the_probabilities() {
        assert_near(&shares(&PLAIN, &halves()), &[0.25, 0.5, 0.125, 0.125]);
    }

    #[test]
    fn temperature_sharpens() {
        let squares = [0.0625, 0.25, 0.015_625, 0.015_625].map(|p| p / 0.343_75);
        assert_near(&shares(&Sampling { temperature: 0.5, ..PLAIN }, &halves()), &squares);
    }

    #[test]
    fn temperature_zero_takes_the_first_best() {
        let mut sampler = sampler(&Sampling { temperature: 0.0, ..PLAIN });
        assert_eq!(sampler.sample(&[1.0, 3.0, 3.0, 2.0]).unwrap().id, 1);
    }

    #[test]
    fn cuts_keep_the_most_probable() {
        let third = 1.0 / 3.0;
        assert_near(&shares(&Sampling { top_k: 2, ..PLAIN }, &halves()), &[third, 2.0 * third, 0.0, 0.0]);
        assert_near(&shares(&Sampling { top_p: 0.7, ..PLAIN }, &halves()), &[third, 2.0 * third, 0.0, 0.0]);
        assert_near(&shares(&Sampling { top_p: 0.01, ..PLAIN }, &halves()), &[0.0, 1.0, 0.0, 0.0]);
        assert_near(&shares(&Sampling { min_p: 0.4, ..PLAIN }, &halves()), &[third, 2.0 * third, 0.0, 0.0]);
    }

    #[test]
    fn penalties_and_bias_change_the_choice() {
        let greedy = Sampling { temperature: 0.0, ..PLAIN };
        let choose = |sampling: &Sampling, n: usize| {
            let mut sampler = Sampler::new(sampling, 7, &[1]).unwrap();
            (0..n).map(|_| sampler.sample(&[1.0, 2.0, -1.0]).unwrap().id).collect::<Vec<_>>()
        };
        assert_eq!(choose(&greedy, 3), [1, 1, 1]);
        // Token 1 is in the prompt: 2 / 3 is less than 1; then token 0 has been generated too.
        assert_eq!(choose(&Sampling { repetition_penalty: 3.0, ..greedy.clone() }, 2), [0, 1]);
        // The prompt does not count for the other two.
        assert_eq!(choose(&Sampling { presence_penalty: 1.5, ..greedy.clone() }, 3), [1, 0, 1]);
        assert_eq!(choose(&Sampling { frequency_penalty: 0.6, ..greedy.clone() }, 4), [1, 1, 0, 1]);
        assert_eq!(choose(&Sampling { logit_bias: vec![(2, 5.0)], ..greedy }, 1), [2]);
    }

    #[test]
    fn logprobs_are_the_models_own() {
        let mut sampler = sampler(&Sampling { temperature: 0.0, logit_bias: vec![(0, 9.0)], ..PLAIN });
        let choice = sampler.sample(&halves()).unwrap();
        assert_eq!(choice.id, 0);
        assert!((choice.logprob - 0.25_f32.ln()).abs() < 1e-6, "{}", choice.logprob);
        let top = top_logprobs(&halves(), 3).unwrap();
        assert_eq!(top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 0, 2]);
    }

    #[test]
    fn options_outside_their_range_are_named() {
        let bad = [
            Sampling { temperature: -3.0, ..PLAIN },
            Sampling { temperature: f32::NAN, ..PLAIN },
            Sampling { top_p: 0.0, ..PLAIN },
            Sampling { min_p: 1.5, ..PLAIN },
            Sampling { repetition_penalty: 0.0, ..PLAIN },
            Sampling { presence_penalty: f32::INFINITY, ..PLAIN },
            Sampling { logit_bias: vec![(3, f32::NAN)], ..PLAIN },
        ];
        for sampling in bad {
            let error = sampling.check().expect_err("the option is outside its range");
            assert_eq!(error.code(), "invalid-argument", "{error}");
            assert!(error.to_string().contains("found"), "{error}");
        }
        assert!(Sampler::new(&PLAIN, 0, &[]).unwrap().sample(&[0.0, f32::NAN]).is_err());
    }

    #[test]
    fn uniform_numbers_are_uniform_and_reproducible() {
        let mean = (0..10_000).map(|n| uniform(1, n)).sum::<f64>() / 10_000.0;
        // The mean of 10,000 has a deviation of 0.0029.
        assert!((mean - 0.5).abs() < 0.012, "{mean}");
        assert_eq!(uniform(1, 5).to_bits(), uniform(1, 5).to_bits());
        assert_ne!(uniform(1, 5).to_bits(), uniform(1 << 32, 5).to_bits());
    }
}
