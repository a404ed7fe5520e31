//! `sample` against the sampler on the CPU: the same tokens from the same draws.

use helium_webgpu::gpu::kernel::Kernel;
use helium_webgpu::sampler::{Sampler, Sampling};

use crate::gpu::{POISON, Random, Runner};
use crate::{Case, Outcome};

/// What the kernel says instead of an id.
const UNDECIDED: u32 = u32::MAX;
const NONSENSE: u32 = u32::MAX - 1;

/// Draws a setting.
const N_DRAWS: u32 = 12;

/// Log-probabilities are sums in f32 of up to 64,000 terms, in 64 parts at least: some 1000 roundings of at most 6e-8
/// each, most of which cancel, relative to a sum whose logarithm is taken.
const LOGPROB_TOLERANCE: f32 = 5e-5;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("sample_greedy", greedy),
        Case::new("sample_draws", draws),
        Case::new("sample_penalties", penalties),
        Case::new("sample_undecided", undecided),
        Case::new("sample_nonsense", nonsense),
    ]
}

/// One text's choices on the device.
struct Device<'a> {
    runner: &'a Runner,
    vocab_size: u32,
    sampling: &'a Sampling,
    seed: u64,
    n_drawn: u32,
    logits: wgpu::Buffer,
    biases: wgpu::Buffer,
    counts: wgpu::Buffer,
    /// Of every choice so far: the next step's token, and the pick.
    chosen: Vec<[wgpu::Buffer; 2]>,
}

impl<'a> Device<'a> {
    fn new(runner: &'a Runner, logits: &[f32], sampling: &'a Sampling, seed: u64, prompt: &[u32]) -> Self {
        let n = logits.len();
        let mut biases = vec![0.0; n];
        for (id, bias) in &sampling.logit_bias {
            biases[*id as usize] += bias;
        }
        let mut counts = vec![0; n];
        for id in prompt {
            counts[*id as usize] = 1 << 31;
        }
        Self {
            runner,
            vocab_size: n as u32,
            sampling,
            seed,
            n_drawn: 0,
            logits: runner.floats("logits", logits),
            biases: runner.floats("biases", &biases),
            counts: runner.storage("counts", &counts),
            chosen: Vec::new(),
        }
    }

    /// Makes the next choice.
    fn choose(&mut self) {
        let floats = [
            self.sampling.temperature,
            self.sampling.top_p,
            self.sampling.min_p,
            self.sampling.repetition_penalty,
            self.sampling.presence_penalty,
            self.sampling.frequency_penalty,
        ];
        let mut words = [0; 12];
        let has_penalties = u32::from(self.sampling.changes_logits());
        words[..3].copy_from_slice(&[self.vocab_size, has_penalties, self.sampling.top_k as u32]);
        words[3..9].copy_from_slice(&floats.map(f32::to_bits));
        words[9..11].copy_from_slice(&[self.seed as u32, (self.seed >> 32) as u32]);
        let params = self.runner.uniform("params", &words);
        let ids = self.runner.poisoned("ids", 1);
        let mut words = vec![POISON; 4 + 4 * 1024];
        words[2] = self.n_drawn;
        let pick = self.runner.storage("pick", &words);
        let buffers = [&params, &self.logits, &self.biases, &self.counts, &ids, &pick];
        // As software adapters have it, and others, in turn.
        let (threads, bins) = if self.n_drawn.is_multiple_of(2) { (32, 128) } else { (256, 512) };
        self.runner.run(&Kernel::sample(threads, bins), &buffers, [1, 1, 1]);
        self.n_drawn += 1;
        self.chosen.push([ids, pick]);
    }

    /// All choices: what the kernel says, and the log-probability.
    async fn picks(&self) -> Result<Vec<(u32, f32)>, String> {
        let buffers: Vec<&wgpu::Buffer> = self.chosen.iter().flatten().collect();
        let read = self.runner.read_all(&buffers).await?;
        let pairs = read.as_chunks::<2>().0.iter().zip(1..);
        pairs
            .map(|([ids, pick], n)| {
                let (next, id) = (ids[0], pick[0]);
                if next >= self.vocab_size || id < self.vocab_size && next != id {
                    return Err(format!("the token {id:#x} was chosen, but the next step's is {next:#x}"));
                }
                if pick[2] != n {
                    return Err(format!("after {n} choices {} are counted", pick[2]));
                }
                Ok((id, f32::from_bits(pick[1])))
            })
            .collect()
    }

    async fn pick(&mut self) -> Result<(u32, f32), String> {
        self.choose();
        Ok(self.picks().await?[0])
    }
}

/// Logits as a language model's: most of them far below a few.
fn logits(random: &mut Random, n: usize, spread: f32) -> Vec<f32> {
    (0..n)
        .map(|_| {
            let sum: f32 = (0..4).map(|_| random.float(1.0)).sum();
            sum * spread
        })
        .collect()
}

/// The same tokens as the sampler on the CPU chooses, `N_DRAWS` times.
async fn agrees(runner: &Runner, what: &str, logits: &[f32], sampling: &Sampling, prompt: &[u32]) -> Outcome {
    let seed = 0x1234_5678_9abc_def0;
    let mut sampler = Sampler::new(sampling, seed, prompt).map_err(|error| error.to_string())?;
    let mut device = Device::new(runner, logits, sampling, seed, prompt);
    for _ in 0..N_DRAWS {
        device.choose();
    }
    for (draw, (id, logprob)) in device.picks().await?.into_iter().enumerate() {
        let expected = sampler.sample(logits).map_err(|error| error.to_string())?;
        if id != expected.id {
            return Err(format!("{what}, draw {draw}: {id:#x}, expected {} ({sampling:?})", expected.id));
        }
        let is_near = (logprob - expected.logprob).abs() <= LOGPROB_TOLERANCE;
        if !is_near {
            return Err(format!("{what}, draw {draw}: log-probability {logprob}, expected {}", expected.logprob));
        }
    }
    Ok(())
}

fn at(temperature: f32) -> Sampling {
    Sampling { temperature, top_p: 1.0, ..Sampling::default() }
}

async fn greedy() -> Outcome {
    let runner = Runner::open(true).await?;
    let mut random = Random::new("sample_greedy");
    for n in [1, 2, 255, 256, 257, 515, 49_152] {
        agrees(&runner, &format!("{n} logits"), &logits(&mut random, n, 8.0), &at(0.0), &[]).await?;
    }
    // The first of equal ones, wherever they lie.
    let mut equal = vec![-1.0; 1000];
    for id in [999, 300, 555, 44] {
        equal[id] = 2.5;
    }
    agrees(&runner, "four equal", &equal, &at(0.0), &[]).await?;
    agrees(&runner, "all equal and low", &[-1e4; 700], &at(0.0), &[]).await
}

async fn draws() -> Outcome {
    let runner = Runner::open(true).await?;
    let mut random = Random::new("sample_draws");
    let settings = [
        at(1.0),
        at(0.3),
        Sampling { top_p: 0.95, ..at(0.7) },
        Sampling { top_p: 0.5, ..at(1.5) },
        Sampling { top_k: 1, ..at(1.0) },
        Sampling { top_k: 40, ..at(1.0) },
        Sampling { top_k: 40, top_p: 0.6, ..at(2.0) },
        Sampling { top_k: 700, top_p: 0.9, min_p: 0.01, ..at(1.0) },
        Sampling { min_p: 0.1, ..at(1.0) },
        Sampling { min_p: 1.0, ..at(1.0) },
    ];
    for (n, spread) in [(1, 1.0), (3, 1.0), (515, 3.0), (1025, 5.0), (64_000, 12.0)] {
        for sampling in &settings {
            agrees(&runner, &format!("{n} logits"), &logits(&mut random, n, spread), sampling, &[]).await?;
        }
    }
    // Equal ones are told apart by their ids.
    let equal: Vec<f32> = (0..900_u32).map(|id| f32::from(u8::from(id.is_multiple_of(7)))).collect();
    agrees(&runner, "two values", &equal, &Sampling { top_p: 0.5, ..at(0.5) }, &[]).await
}

async fn penalties() -> Outcome {
    let runner = Runner::open(true).await?;
    let mut random = Random::new("sample_penalties");
    let base = Sampling { top_p: 0.9, ..at(0.8) };
    for sampling in [
        Sampling { repetition_penalty: 1.3, ..base.clone() },
        Sampling { presence_penalty: 0.5, frequency_penalty: 0.7, ..base.clone() },
        Sampling { frequency_penalty: -0.4, ..at(0.0) },
        Sampling { logit_bias: vec![(3, 9.0), (7, -100.0), (3, 2.0)], ..base },
    ] {
        let logits = logits(&mut random, 2000, 6.0);
        agrees(&runner, "penalised", &logits, &sampling, &[3, 5, 5, 1999, 0]).await?;
    }
    Ok(())
}

/// Where the cut lies beyond what is sorted.
async fn undecided() -> Outcome {
    let runner = Runner::open(true).await?;
    let mut random = Random::new("sample_undecided");
    let flat = logits(&mut random, 40_000, 0.01);
    for sampling in [Sampling { top_p: 0.9, ..at(1.0) }, Sampling { top_k: 5000, ..at(1.0) }, at(1.0)] {
        let (id, _) = Device::new(&runner, &flat, &sampling, 1, &[]).pick().await?;
        if id != UNDECIDED {
            return Err(format!("a flat distribution: {id:#x}, expected {UNDECIDED:#x} ({sampling:?})"));
        }
    }
    Ok(())
}

async fn nonsense() -> Outcome {
    let runner = Runner::open(true).await?;
    let mut random = Random::new("sample_nonsense");
    for (at_id, value) in [(0, f32::NAN), (999, f32::INFINITY), (500, f32::NEG_INFINITY)] {
        for sampling in [at(0.0), at(1.0)] {
            let mut logits = logits(&mut random, 1000, 5.0);
            logits[at_id] = value;
            let (id, which) = Device::new(&runner, &logits, &sampling, 1, &[]).pick().await?;
            if id != NONSENSE || which.to_bits() != at_id as u32 {
                return Err(format!("{value} at {at_id}: {id:#x} of {}, expected {NONSENSE:#x}", which.to_bits()));
            }
        }
    }
    Ok(())
}
