//! `attention` and `attention_combine`.

use half::f16;
use helium_webgpu::gpu::kernel::{ATTENTION_ROWS, Kernel, attention_teams};

use super::{Want, check, untouched};
use crate::gpu::{POISON, Random, Runner};
use crate::reference::Bounded;
use crate::reference::attention::attention;
use crate::reference::attention_combine::{Slice, attention_combine};
use crate::{Case, Outcome};

/// Head dimensions and groups (query heads a key-value head): every one of either, and more rows than a block
/// takes.
const HEADS: [(usize, usize); 10] =
    [(12, 1), (12, 5), (16, 9), (20, 3), (64, 1), (64, 3), (64, 9), (128, 1), (128, 2), (256, 3)];

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = HEADS
        .into_iter()
        .map(|(head_dim, n_groups)| {
            let name = format!("attention_hd{head_dim}_g{n_groups}");
            Case::new(name.clone(), move || every_step(name, head_dim, n_groups))
        })
        .collect();
    for (head_dim, n_groups) in [(20, 3), (64, 9), (128, 1)] {
        let name = format!("attention_shared_hd{head_dim}_g{n_groups}");
        cases.push(Case::new(name.clone(), move || every_sharing(name, head_dim, n_groups)));
    }
    cases.push(Case::new("attention_combine", combine));
    cases
}

/// A step of tokens after others in the cache.
struct Step {
    pos: usize,
    n_tokens: usize,
    /// Positions a slice; one slice if it reaches the end.
    slice_len: usize,
    /// The largest of q: what it makes of scores.
    largest: f32,
}

const ONE_SLICE: usize = 1 << 20;

/// The first and a later position, either side of a tile of 64; one, several and many tokens; slices that end
/// within, at and after a tile, and that the first tokens of a step do not see at all.
const STEPS: [Step; 12] = [
    Step { pos: 0, n_tokens: 1, slice_len: ONE_SLICE, largest: 1.0 },
    Step { pos: 63, n_tokens: 1, slice_len: ONE_SLICE, largest: 1.0 },
    Step { pos: 64, n_tokens: 1, slice_len: 256, largest: 4.0 },
    Step { pos: 300, n_tokens: 1, slice_len: ONE_SLICE, largest: 1.0 },
    Step { pos: 300, n_tokens: 1, slice_len: 256, largest: 1.0 },
    Step { pos: 300, n_tokens: 1, slice_len: 100, largest: 4.0 },
    Step { pos: 64, n_tokens: 3, slice_len: ONE_SLICE, largest: 4.0 },
    Step { pos: 0, n_tokens: 33, slice_len: ONE_SLICE, largest: 1.0 },
    Step { pos: 63, n_tokens: 5, slice_len: 64, largest: 1.0 },
    Step { pos: 0, n_tokens: 70, slice_len: 32, largest: 4.0 },
    // Scores of thousands: e^score alone would overflow.
    Step { pos: 64, n_tokens: 1, slice_len: ONE_SLICE, largest: 2e4 },
    Step { pos: 63, n_tokens: 5, slice_len: 17, largest: 2e4 },
];

async fn every_step(name: String, head_dim: usize, n_groups: usize) -> Outcome {
    let runner = Runner::open(true).await?;
    steps(&runner, head_dim, n_groups, 1, &mut Random::new(&name)).await
}

/// With lanes that share out what all need.
async fn every_sharing(name: String, head_dim: usize, n_groups: usize) -> Outcome {
    let runner = Runner::open(false).await?;
    let subgroup = runner.offer().subgroup;
    if subgroup < 4 {
        return crate::left_out("this adapter has no subgroups of four lanes");
    }
    let mut random = Random::new(&name);
    for sharers in [4, 8].into_iter().filter(|sharers| *sharers <= subgroup) {
        steps(&runner, head_dim, n_groups, sharers, &mut random).await?;
    }
    Ok(())
}

async fn steps(runner: &Runner, head_dim: usize, n_groups: usize, sharers: u32, random: &mut Random) -> Outcome {
    for step in &STEPS {
        // Blocks of as many rows as a decoding step needs, and as a batch does.
        let few = ATTENTION_ROWS.min(n_groups as u32);
        let teams = attention_teams(few, head_vecs(head_dim));
        if step.n_tokens < 5 {
            check_step(runner, head_dim, n_groups, (few, sharers, 1), step, random).await?;
        }
        if step.n_tokens < 5 && sharers == 1 && teams > 1 {
            check_step(runner, head_dim, n_groups, (few, 1, teams), step, random).await?;
        }
        if few != ATTENTION_ROWS && (step.n_tokens > 1 || step.largest > 1.0) {
            check_step(runner, head_dim, n_groups, (ATTENTION_ROWS, sharers, 1), step, random).await?;
        }
    }
    Ok(())
}

/// vec4 in a head, padded as in the cache.
fn head_vecs(head_dim: usize) -> u32 {
    (head_dim.next_multiple_of(8) / 4) as u32
}

async fn check_step(
    runner: &Runner,
    head_dim: usize,
    n_groups: usize,
    (block, sharers, teams): (u32, u32, u32),
    step: &Step,
    random: &mut Random,
) -> Outcome {
    let Step { pos, n_tokens, slice_len, largest } = *step;
    let n_kv_heads = 2;
    let n_heads = n_kv_heads * n_groups;
    let n_seen = pos + n_tokens;
    let n_slices = n_seen.div_ceil(slice_len);
    let max_seq = n_seen + 5;
    // Past the heads of a token nothing may be read or written.
    let stride = n_heads * head_dim + 4;
    let mut q = vec![f32::from_bits(POISON); n_tokens * stride];
    for token in q.chunks_exact_mut(stride) {
        token[..n_heads * head_dim].copy_from_slice(&random.floats(n_heads * head_dim, largest));
    }
    let keys = Cached::random(n_kv_heads, n_seen, head_dim, max_seq, random);
    let values = Cached::random(n_kv_heads, n_seen, head_dim, max_seq, random);

    let slices_len = if n_slices > 1 { n_tokens * n_heads * n_slices * (head_dim + 2) } else { 0 };
    let slices = runner.poisoned("slices", slices_len);
    let out = runner.poisoned("out", n_tokens * stride);
    let kernel = Kernel::attention(block, head_vecs(head_dim), sharers, teams);
    // pos, n_tokens, first_token, slice_len
    let step_buffer = runner.uniform("step", &[pos, n_tokens, 0, slice_len].map(|n| n as u32));
    let scale = 1.0 / (head_dim as f32).sqrt();
    let scale = scale.to_bits() as usize;
    // n_heads, n_groups, head_dim, max_seq, stride, scale, padding
    let params = [n_heads, n_groups, head_dim, max_seq, stride, scale, 0, 0].map(|n| n as u32);
    let params = runner.uniform("params", &params);
    let [q_buffer, k, v] =
        [runner.floats("q", &q), runner.storage("k", &keys.words), runner.storage("v", &values.words)];
    let n_blocks = (n_tokens * n_groups).div_ceil(block as usize);
    let grid = [n_kv_heads, n_blocks, n_slices].map(|n| n as u32);
    runner.run(&kernel, &[&step_buffer, &params, &q_buffer, &k, &v, &out, &slices], grid);

    let what = format!(
        "{}, heads of {head_dim}, {n_groups} a group, {n_tokens} tokens at position {pos}, {n_slices} slices, q up \
         to {largest}",
        kernel.label
    );
    let place = |at: usize| {
        let (token, element) = (at / stride, at % stride);
        format!("out[{token}, head {}, {}]", element / head_dim, element % head_dim)
    };
    if n_slices > 1 {
        check(&format!("{what}, before the slices are joined"), &runner.read(&out).await?, &untouched(q.len()), place)?;
        // n_heads, head_dim, stride, padding
        let params = runner.uniform("params", &[n_heads, head_dim, stride, 0].map(|n| n as u32));
        let grid = [n_heads as u32, n_tokens as u32, 1];
        runner.run(&Kernel::attention_combine(64, n_slices as u32), &[&step_buffer, &params, &slices, &out], grid);
        let guard: Vec<u32> = runner.read(&slices).await?[slices_len..].to_vec();
        check(&format!("{what}, slices"), &guard, &[], |_| String::new())?;
    }

    let mut wanted = untouched(q.len());
    for token in 0..n_tokens {
        for head in 0..n_heads {
            let at = token * stride + head * head_dim;
            let kv_head = head / n_groups;
            let [keys, values] = [&keys, &values].map(|cached| cached.head(kv_head, pos + token + 1));
            let result = attention(&q[at..at + head_dim], keys, values);
            for (want, result) in wanted[at..].iter_mut().zip(result) {
                *want = Want::Float(result);
            }
        }
    }
    check(&what, &runner.read(&out).await?, &wanted, place)
}

/// Keys or values of a layer. Positions past the last hold what is not a number.
struct Cached {
    n_seen: usize,
    head_dim: usize,
    /// `[n_kv_heads, n_seen, head_dim]`
    values: Vec<f64>,
    /// `[n_kv_heads, max_seq, words]` pairs of f16; a head is padded with zeros to whole 16 bytes.
    words: Vec<u32>,
}

impl Cached {
    fn random(n_kv_heads: usize, n_seen: usize, head_dim: usize, max_seq: usize, random: &mut Random) -> Self {
        let n_words = head_dim.next_multiple_of(8) / 2;
        let mut values = Vec::new();
        let mut words = Vec::new();
        for _ in 0..n_kv_heads {
            for _ in 0..n_seen {
                let row: Vec<f16> = random.floats(head_dim, 2.0).into_iter().map(f16::from_f32).collect();
                values.extend(row.iter().map(|value| value.to_f64()));
                words.extend(row.chunks_exact(2).map(|p| u32::from(p[0].to_bits()) | u32::from(p[1].to_bits()) << 16));
                words.resize(words.len().next_multiple_of(n_words), 0);
            }
            words.resize(words.len() + (max_seq - n_seen) * n_words, POISON);
        }
        Self { n_seen, head_dim, values, words }
    }

    fn head(&self, kv_head: usize, n_visible: usize) -> &[f64] {
        &self.values[kv_head * self.n_seen * self.head_dim..][..n_visible * self.head_dim]
    }
}

/// Slices as no attention would leave them together: far apart, and empty ones.
async fn combine() -> Outcome {
    // What attention leaves as the maximum of a slice that a query does not see.
    const NOTHING: f32 = -1e30;
    let runner = Runner::open(true).await?;
    let mut random = Random::new("attention_combine");
    for (n_heads, head_dim, n_slices, n_tokens) in [(1, 12, 2, 1), (5, 64, 3, 1), (3, 128, 64, 5), (2, 256, 7, 2)] {
        let stride = n_heads * head_dim + 4;
        let mut words: Vec<f32> = Vec::new();
        let mut wanted = untouched(n_tokens * stride);
        for token in 0..n_tokens {
            for head in 0..n_heads {
                let slices: Vec<Slice> = (0..n_slices)
                    .map(|s| match (s + head) % 4 {
                        3 => Slice { values: vec![0.0; head_dim], largest: NOTHING, sum: 0.0 },
                        kind => Slice {
                            values: random.floats(head_dim, 3.0),
                            largest: random.float([3.0, 100.0, 1e4][kind]),
                            sum: 1.0 + random.float(1.0).abs(),
                        },
                    })
                    .collect();
                for slice in &slices {
                    words.extend(slice.values.iter().chain([&slice.largest, &slice.sum]));
                }
                let wanted = &mut wanted[token * stride + head * head_dim..];
                let joined: Vec<Bounded> = attention_combine(&slices);
                for (want, value) in wanted.iter_mut().zip(joined) {
                    *want = Want::Float(value);
                }
            }
        }
        let slices = runner.floats("slices", &words);
        // Slices of 10 positions: the last is not full.
        let pos = n_slices * 10 - n_tokens - 3;
        let step = runner.uniform("step", &[pos, n_tokens, 0, 10].map(|n| n as u32));
        let params = runner.uniform("params", &[n_heads, head_dim, stride, 0].map(|n| n as u32));
        let place = |at: usize| format!("out[{}, {}]", at / stride, at % stride);
        for threads in [64, 256] {
            let out = runner.poisoned("out", n_tokens * stride);
            let kernel = Kernel::attention_combine(threads, 64);
            runner.run(&kernel, &[&step, &params, &slices, &out], [n_heads as u32, n_tokens as u32, 1]);
            let what =
                format!("{threads} threads, {n_slices} slices of {n_heads} heads of {head_dim}, {n_tokens} tokens");
            check(&what, &runner.read(&out).await?, &wanted, place)?;
        }
    }
    Ok(())
}
