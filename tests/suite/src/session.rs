//! Generation and scoring on a small model with random weights and a byte-level vocabulary.

use helium_webgpu::format::{Progress, parse_header};
use helium_webgpu::model::Model;
use helium_webgpu::sampler::Sampling;
use helium_webgpu::score::score;
use helium_webgpu::session::{Cancel, FinishReason, GenerateOptions, Generation, Piece, generate};
use helium_webgpu::tokenizer::{GgufVocab, Tokenizer};

use crate::loader::{F16, load_gguf, with_u32};
use crate::{Case, Outcome, refused, text};

/// How far log-probabilities may be apart that matrix-vector and matrix products computed. Sums in f32 in another
/// order differ by 1e-6; where that makes an f16 of the cache round the other way, by up to 0.01 with these weights.
const LOGPROB_TOLERANCE: f32 = 0.01;

/// "The ferry and the", after BOS.
const PROMPT: [u32; 9] = [1, 54, 260, 278, 263, 84, 91, 279, 266];

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("session_seeds", seeds),
        Case::new("session_streams", streams),
        Case::new("session_stop", stop),
        Case::new("session_lengths", lengths),
        Case::new("session_eos", eos),
        Case::new("session_cancel", cancel),
        Case::new("session_context_end", context_end),
        Case::new("session_refuses", refuses),
        Case::new("session_truncate", truncate),
        Case::new("session_top", top),
        Case::new("session_score_agrees", || score_agrees(70, 8)),
        // More than one slice of attention.
        Case::new("session_score_agrees_after_300", || score_agrees(300, 4)),
        Case::new("session_host_and_device_agree", host_and_device_agree),
        Case::new("session_prefix_is_kept", prefix_is_kept),
        Case::new("session_nonsense", nonsense),
    ]
}

fn tokenizer() -> Result<Tokenizer, String> {
    let header = match parse_header("model.gguf", F16, Some(F16.len() as u64)).map_err(text)? {
        Progress::Done(header) => header,
        Progress::NeedMore(n) => return Err(format!("the header needs {n} bytes")),
    };
    let vocab = GgufVocab::from_metadata("model.gguf", &header.metadata).map_err(text)?;
    Tokenizer::from_gguf(vocab.ok_or("the file has no vocabulary")?).map_err(text)
}

/// The most probable tokens.
fn greedy(max_tokens: usize) -> GenerateOptions {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    GenerateOptions { max_tokens, sampling, ..GenerateOptions::default() }
}

/// Tokens drawn with `seed`, of many about as probable.
fn drawn(max_tokens: usize, seed: u64) -> GenerateOptions {
    let sampling = Sampling { temperature: 3.0, top_p: 1.0, seed: Some(seed), ..Sampling::default() };
    GenerateOptions { max_tokens, sampling, ..GenerateOptions::default() }
}

/// A generation, and its pieces.
async fn run(
    model: &mut Model,
    tokenizer: Option<&Tokenizer>,
    prompt: &[u32],
    options: &GenerateOptions,
) -> Result<(Generation, Vec<Piece>), String> {
    let mut pieces = Vec::new();
    let on_piece = |piece: &Piece| pieces.push(piece.clone());
    let generation = generate(model, tokenizer, prompt, options, &Cancel::default(), on_piece).await.map_err(text)?;
    // Whatever was generated: its pieces are the whole of it.
    let ids: Vec<u32> = pieces.iter().filter_map(|piece| piece.id).collect();
    equal("the pieces' ids", &ids, &generation.ids)?;
    let streamed: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
    equal("the pieces' text", &streamed, &generation.text)?;
    equal("the prompt", &generation.prompt_ids[..], prompt)?;
    Ok((generation, pieces))
}

fn equal<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, found: &T, expected: &T) -> Outcome {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, expected {expected:?}")) }
}

fn near(what: &str, found: f32, expected: f32, tolerance: f32) -> Outcome {
    // So that what is not a number fails.
    let is_near = (found - expected).abs() <= tolerance;
    if is_near { Ok(()) } else { Err(format!("{what}: {found}, expected {expected} ± {tolerance}")) }
}

async fn seeds() -> Outcome {
    let mut model = load_gguf(F16, 64).await?;
    let tokenizer = tokenizer()?;
    let (first, _) = run(&mut model, Some(&tokenizer), &PROMPT, &drawn(16, 7)).await?;
    equal("seed", &first.seed, &7)?;
    equal("n_ids", &first.ids.len(), &16)?;
    let (other, _) = run(&mut model, Some(&tokenizer), &PROMPT, &drawn(16, 8)).await?;
    if other.ids == first.ids {
        return Err(format!("the seeds 7 and 8 drew the same ids: {:?}", first.ids));
    }
    let (again, _) = run(&mut model, Some(&tokenizer), &PROMPT, &drawn(16, 7)).await?;
    equal("ids of the same seed", &again.ids, &first.ids)?;
    equal("text of the same seed", &again.text, &first.text)?;
    // A seed of its own is reported, so that it can be asked for.
    let mut options = drawn(16, 0);
    options.sampling.seed = None;
    let (unseeded, _) = run(&mut model, Some(&tokenizer), &PROMPT, &options).await?;
    let (again, _) = run(&mut model, Some(&tokenizer), &PROMPT, &drawn(16, unseeded.seed)).await?;
    equal("ids of the reported seed", &again.ids, &unseeded.ids)
}

/// The text is that of the ids, whatever they spell, with and without a tokenizer.
async fn streams() -> Outcome {
    let mut model = load_gguf(F16, 128).await?;
    let tokenizer = tokenizer()?;
    let (with, pieces) = run(&mut model, Some(&tokenizer), &PROMPT, &drawn(64, 3)).await?;
    equal("text", &with.text, &tokenizer.decode(&with.ids).map_err(text)?)?;
    // Draws from 291 pieces of bytes spell characters of several bytes, and bytes of none.
    if !with.text.contains('\u{fffd}') || pieces.iter().all(|piece| !piece.text.is_empty()) {
        return Err(format!("no text was held back in {:?}: choose another seed", with.text));
    }
    let (without, _) = run(&mut model, None, &PROMPT, &drawn(64, 3)).await?;
    equal("ids without a tokenizer", &without.ids, &with.ids)?;
    equal("text without a tokenizer", without.text.as_str(), "")
}

/// Stop texts within a token, across tokens, and that never come. Only letters are drawn.
async fn stop() -> Outcome {
    let mut model = load_gguf(F16, 128).await?;
    let tokenizer = tokenizer()?;
    let is_word = |id: &u32| tokenizer.piece(*id).is_some_and(|piece| piece.bytes().all(|b| b.is_ascii_alphabetic()));
    let mut options = drawn(40, 5);
    // Far more than logits differ.
    options.sampling.logit_bias = (3..291).filter(is_word).map(|id| (id, 1000.0)).collect();
    let (free, pieces) = run(&mut model, Some(&tokenizer), &PROMPT, &options).await?;
    equal("reason", &free.finish_reason, &FinishReason::Length)?;
    if !free.text.bytes().all(|byte| byte.is_ascii_alphabetic()) || free.text.len() < 40 {
        return Err(format!("{:?} is not 40 pieces of letters", free.text));
    }
    // Where the text of each token ends.
    let ends: Vec<usize> = pieces
        .iter()
        .scan(0, |end, piece| {
            *end += piece.text.len();
            Some(*end)
        })
        .collect();

    for begin in [0, 10, 25] {
        for len in [1, 2, 5] {
            let wanted = free.text[begin..begin + len].to_owned();
            // It may come earlier than where it was taken from.
            let at = free.text.find(&wanted).unwrap_or(begin);
            let n_ids = ends.iter().position(|end| *end >= at + len).map_or(0, |last| last + 1);
            // One that never comes, and one that begins as the other does.
            let stop = vec!["never".to_owned() + "!", wanted.clone() + "!", wanted.clone()];
            let options = GenerateOptions { stop, ..options.clone() };
            let (stopped, _) = run(&mut model, Some(&tokenizer), &PROMPT, &options).await?;
            let what = format!("stop at {wanted:?}");
            equal(&format!("{what}: reason"), &stopped.finish_reason, &FinishReason::Stop)?;
            equal(&format!("{what}: text"), &stopped.text[..], &free.text[..at])?;
            equal(&format!("{what}: ids"), &stopped.ids[..], &free.ids[..n_ids])?;
        }
    }
    // What began as a stop text at the end is given after all.
    let end: String = free.text[free.text.len() - 3..].to_owned() + "!";
    let (held, pieces) =
        run(&mut model, Some(&tokenizer), &PROMPT, &GenerateOptions { stop: vec![end], ..options }).await?;
    equal("held back text", &held.text, &free.text)?;
    equal("reason", &held.finish_reason, &FinishReason::Length)?;
    equal("the last piece has no token", &pieces.last().map(|piece| piece.id), &Some(None))
}

async fn lengths() -> Outcome {
    let mut model = load_gguf(F16, 64).await?;
    let tokenizer = tokenizer()?;
    let (five, _) = run(&mut model, Some(&tokenizer), &PROMPT, &greedy(5)).await?;
    for n in [0, 1, 4, 5] {
        let (generation, pieces) = run(&mut model, Some(&tokenizer), &PROMPT, &greedy(n)).await?;
        equal(&format!("max_tokens {n}: ids"), &generation.ids[..], &five.ids[..n])?;
        equal(&format!("max_tokens {n}: reason"), &generation.finish_reason, &FinishReason::Length)?;
        if n == 0 {
            equal("pieces of no tokens", &pieces, &Vec::new())?;
        }
    }
    Ok(())
}

/// A model whose EOS is a token that greedy decoding comes to.
async fn eos() -> Outcome {
    let tokenizer = tokenizer()?;
    let (free, _) = run(&mut load_gguf(F16, 64).await?, Some(&tokenizer), &PROMPT, &greedy(12)).await?;
    for at in [0, 5] {
        let eos = free.ids[at];
        let first = free.ids.iter().position(|id| *id == eos).unwrap_or(at);
        let mut model = load_gguf(&with_u32(F16, "tokenizer.ggml.eos_token_id", eos)?, 64).await?;
        let (ended, _) = run(&mut model, Some(&tokenizer), &PROMPT, &greedy(12)).await?;
        equal("reason", &ended.finish_reason, &FinishReason::Eos)?;
        equal("ids before the end", &ended.ids[..], &free.ids[..first])?;
        // EOS as a token too many is not seen: as many came as were asked for.
        let (short, _) = run(&mut model, Some(&tokenizer), &PROMPT, &greedy(first)).await?;
        equal("reason before EOS", &short.finish_reason, &FinishReason::Length)?;
    }
    Ok(())
}

/// Before, in the prompt, and within the text; the model works as before.
async fn cancel() -> Outcome {
    let mut model = load_gguf(F16, 256).await?;
    let long: Vec<u32> = (0..200).map(|i| 3 + i * 7 % 280).collect();
    let (expected, _) = run(&mut model, None, &PROMPT, &greedy(8)).await?;
    for (prompt, n_before) in [(&PROMPT[..], 0), (&long[..], 0), (&PROMPT[..], 1), (&PROMPT[..], 5)] {
        let cancel = Cancel::default();
        if n_before == 0 {
            cancel.cancel();
        }
        let mut n_pieces = 0;
        let on_piece = |_: &Piece| {
            n_pieces += 1;
            if n_pieces == n_before {
                cancel.cancel();
            }
        };
        let result = generate(&mut model, None, prompt, &greedy(50), &cancel, on_piece).await;
        let what = format!("cancelled after {n_before} tokens");
        refused(&what, result, "aborted", "cancelled")?;
        equal(&format!("{what}: pieces"), &n_pieces, &n_before)?;
        let (after, _) = run(&mut model, None, &PROMPT, &greedy(8)).await?;
        equal(&format!("{what}: the next text"), &after.ids, &expected.ids)?;
    }
    Ok(())
}

/// A context of 40: prompts that leave room for some tokens, one, and none.
async fn context_end() -> Outcome {
    let mut model = load_gguf(F16, 40).await?;
    let prompt: Vec<u32> = (0..41).map(|i| 3 + i * 11 % 280).collect();
    // The last token that fits is computed, and one more is drawn from it.
    for n_prompt in [30, 39, 40] {
        let (generation, _) = run(&mut model, None, &prompt[..n_prompt], &greedy(100)).await?;
        equal(&format!("a prompt of {n_prompt}: reason"), &generation.finish_reason, &FinishReason::Context)?;
        equal(&format!("a prompt of {n_prompt}: ids"), &generation.ids.len(), &(41 - n_prompt))?;
        let (exact, _) = run(&mut model, None, &prompt[..n_prompt], &greedy(41 - n_prompt)).await?;
        equal(&format!("as many as fit after {n_prompt}: reason"), &exact.finish_reason, &FinishReason::Length)?;
        equal(&format!("as many as fit after {n_prompt}: ids"), &exact.ids, &generation.ids)?;
    }
    let result = generate(&mut model, None, &prompt, &greedy(1), &Cancel::default(), |_| {}).await;
    refused("a prompt of 41", result, "context-full", "40")?;
    refused("41 tokens to score", score(&mut model, &prompt, 0, &Cancel::default()).await, "context-full", "40")?;
    run(&mut model, None, &prompt[..30], &greedy(2)).await.map(|_| ())
}

async fn refuses() -> Outcome {
    type Bad<'a> = (&'a str, &'a [u32], Option<&'a Tokenizer>, GenerateOptions, &'a str);
    let mut model = load_gguf(F16, 40).await?;
    let tokenizer = tokenizer()?;
    let with_stop = |stop: &str| GenerateOptions { stop: vec![stop.into()], ..greedy(2) };
    let with_temperature =
        |temperature| GenerateOptions { sampling: Sampling { temperature, ..Sampling::default() }, ..greedy(2) };
    let bad: [Bad; 8] = [
        ("no prompt", &[], Some(&tokenizer), greedy(2), "prompt"),
        ("id 291", &[1, 291], Some(&tokenizer), greedy(2), "291"),
        ("the largest id", &[u32::MAX], None, greedy(2), "4294967295"),
        ("an empty stop text", &PROMPT, Some(&tokenizer), with_stop(""), "stop"),
        ("a stop text without a tokenizer", &PROMPT, None, with_stop("a"), "stop"),
        ("a temperature below 0", &PROMPT, None, with_temperature(-0.5), "temperature"),
        ("a temperature that is no number", &PROMPT, None, with_temperature(f32::NAN), "temperature"),
        ("an infinite temperature", &PROMPT, None, with_temperature(f32::INFINITY), "temperature"),
    ];
    for (what, prompt, tokenizer, options, mentions) in bad {
        let result = generate(&mut model, tokenizer, prompt, &options, &Cancel::default(), |_| {}).await;
        refused(what, result, "invalid-argument", mentions)?;
    }
    refused("nothing to score", score(&mut model, &[], 0, &Cancel::default()).await, "invalid-argument", "")?;
    refused("id 291 to score", score(&mut model, &[1, 291], 0, &Cancel::default()).await, "invalid-argument", "291")?;
    refused("id 291 in a step", model.step(&[291], 0..1), "invalid-argument", "291")?;
    refused("an empty step", model.step(&[], 0..0), "internal", "0 tokens")?;
    refused("logits past the step", model.step(&[1], 0..2), "internal", "0..2")?;
    equal("the context after refused steps", model.context(), &[])?;
    run(&mut model, Some(&tokenizer), &PROMPT, &greedy(2)).await.map(|_| ())
}

/// A context cut back and continued is as if nothing else had been there.
async fn truncate() -> Outcome {
    let mut model = load_gguf(F16, 128).await?;
    let ids: Vec<u32> = (0..60).map(|i| 3 + i * 13 % 280).collect();
    let others: Vec<u32> = (0..60).map(|i| 290 - i * 17 % 280).collect();
    let logits_after = async |model: &mut Model, ids: &[u32]| {
        model.step(ids, ids.len() - 1..ids.len()).map_err(text)?;
        model.read_logits().await.map_err(text)
    };
    logits_after(&mut model, &ids[..40]).await?;
    let expected = logits_after(&mut model, &ids[40..]).await?;
    for n_kept in [0, 1, 17, 39] {
        model.truncate(n_kept);
        equal("the context cut back", model.context(), &ids[..n_kept])?;
        logits_after(&mut model, &others[n_kept..]).await?;
        model.truncate(n_kept);
        // More than there is: nothing to cut.
        model.truncate(1000);
        logits_after(&mut model, &ids[n_kept..40]).await?;
        let found = logits_after(&mut model, &ids[40..]).await?;
        for (id, (found, expected)) in found.iter().zip(&expected).enumerate() {
            near(&format!("cut back to {n_kept}: logit {id}"), *found, *expected, LOGPROB_TOLERANCE)?;
        }
        equal("the context", model.context(), &ids)?;
    }
    Ok(())
}

async fn top() -> Outcome {
    let mut model = load_gguf(F16, 64).await?;
    for n_top in [0, 1, 5, 291, 1000] {
        let options = GenerateOptions { n_top, ..greedy(3) };
        let (_, pieces) = run(&mut model, None, &PROMPT, &options).await?;
        for (i, piece) in pieces.iter().enumerate() {
            let what = format!("n_top {n_top}, token {i}");
            equal(&format!("{what}: how many"), &piece.top.len(), &n_top.min(291))?;
            if !piece.top.is_sorted_by(|a, b| a.1 >= b.1) {
                return Err(format!("{what}: not from the best down: {:?}", piece.top));
            }
            if let Some((id, logprob)) = piece.top.first() {
                // Greedy decoding takes the best.
                equal(&format!("{what}: the best"), &Some(*id), &piece.id)?;
                equal(&format!("{what}: its log-probability"), &Some(*logprob), &piece.logprob)?;
            }
            if n_top >= 291 {
                let sum: f32 = piece.top.iter().map(|(_, logprob)| logprob.exp()).sum();
                near(&format!("{what}: all probabilities"), sum, 1.0, 1e-4)?;
            }
        }
    }
    let scored = score(&mut model, &PROMPT, 4, &Cancel::default()).await.map_err(text)?;
    equal("positions with the most probable tokens", &scored.top.len(), &(PROMPT.len() - 1))?;
    equal("their number", &scored.top.iter().all(|top| top.len() == 4), &true)
}

/// The log-probabilities of a generated text are those that scoring it gives, and its first token is the most
/// probable one there, in a context longer than a step and a slice of attention.
async fn score_agrees(n_prompt: u32, n_generated: usize) -> Outcome {
    let bytes = with_u32(F16, "llama.context_length", 600)?;
    let mut model = load_gguf(&bytes, 400).await?;
    let prompt: Vec<u32> = (0..n_prompt).map(|i| 3 + i * i * 7 % 280).collect();
    let options = GenerateOptions { n_top: 3, ..drawn(n_generated, 11) };
    let (generation, pieces) = run(&mut model, None, &prompt, &options).await?;
    equal("tokens", &generation.ids.len(), &n_generated)?;
    let all = [&prompt[..], &generation.ids].concat();
    let scored = score(&mut model, &all, 3, &Cancel::default()).await.map_err(text)?;
    equal("scored ids", &scored.ids, &all)?;
    equal("log-probabilities", &scored.logprobs.len(), &all.len())?;
    equal("the first log-probability", &scored.logprobs[0], &None)?;
    for (i, piece) in pieces.iter().enumerate() {
        let at = prompt.len() + i;
        let [found, expected] = [piece.logprob, scored.logprobs[at]].map(|logprob| logprob.unwrap_or(f32::NAN));
        near(&format!("the log-probability of token {i}"), found, expected, LOGPROB_TOLERANCE)?;
        for ((_, found), (_, expected)) in piece.top.iter().zip(&scored.top[at - 1]) {
            near(&format!("a most probable token at {i}"), *found, *expected, LOGPROB_TOLERANCE)?;
        }
    }
    let sum: f64 = scored.logprobs.iter().flatten().map(|logprob| -f64::from(*logprob)).sum();
    let mean = sum / (all.len() - 1) as f64;
    near("the mean", scored.mean_nll as f32, mean as f32, 1e-5)?;
    near("the perplexity", scored.perplexity() as f32, mean.exp() as f32, mean.exp() as f32 * 1e-5)
}

/// The same tokens whether the device chooses them, or the host, as it does where alternatives are asked for.
async fn host_and_device_agree() -> Outcome {
    let mut model = load_gguf(F16, 64).await?;
    let mut penalised = drawn(24, 5);
    penalised.sampling.repetition_penalty = 1.5;
    penalised.sampling.frequency_penalty = 0.3;
    penalised.sampling.logit_bias = vec![(70, 3.0)];
    let mut nucleus = drawn(24, 6);
    nucleus.sampling.top_p = 0.8;
    nucleus.sampling.top_k = 50;
    for options in [greedy(24), drawn(24, 4), penalised, nucleus] {
        let (device, device_pieces) = run(&mut model, None, &PROMPT, &options).await?;
        let (host, host_pieces) = run(&mut model, None, &PROMPT, &GenerateOptions { n_top: 1, ..options }).await?;
        equal("ids", &device.ids, &host.ids)?;
        for (device, host) in device_pieces.iter().zip(&host_pieces) {
            let [found, expected] = [device.logprob, host.logprob].map(|logprob| logprob.unwrap_or(f32::NAN));
            // The same logits, summed in f32 there and in f64 here.
            near("log-probability", found, expected, 1e-4)?;
        }
    }
    Ok(())
}

/// A prompt that begins as the context does is computed from where they part.
async fn prefix_is_kept() -> Outcome {
    let mut model = load_gguf(F16, 64).await?;
    let (first, _) = run(&mut model, None, &PROMPT, &greedy(12)).await?;
    equal("tokens kept of an empty context", &first.n_reused, &0)?;
    // The last of a prompt is computed anyway, for its logits.
    let (again, _) = run(&mut model, None, &PROMPT, &greedy(12)).await?;
    equal("tokens kept of the same prompt", &again.n_reused, &(PROMPT.len() - 1))?;
    equal("the ids", &again.ids, &first.ids)?;
    // What was generated belongs to the context, but for the last token, which no step has taken.
    let longer = [&PROMPT[..], &first.ids[..6]].concat();
    let (continued, _) = run(&mut model, None, &longer, &greedy(6)).await?;
    equal("tokens kept of a continued text", &continued.n_reused, &(longer.len() - 1))?;
    equal("the ids of a continued text", &continued.ids[..], &first.ids[6..])?;
    let other = [&PROMPT[..4], &[7, 8, 9]].concat();
    let (branched, _) = run(&mut model, None, &other, &greedy(6)).await?;
    equal("tokens kept of another text", &branched.n_reused, &4)?;
    model.truncate(0);
    let (fresh, _) = run(&mut model, None, &other, &greedy(6)).await?;
    equal("the ids of another text", &branched.ids, &fresh.ids)
}

/// Weights that make logits which are not numbers are reported, and nothing is drawn from them.
async fn nonsense() -> Outcome {
    let header = match parse_header("model.gguf", F16, None).map_err(text)? {
        Progress::Done(header) => header,
        Progress::NeedMore(n) => return Err(format!("the header needs {n} bytes")),
    };
    let output = header.tensor("output.weight").ok_or("the file has no output.weight")?;
    let mut bytes = F16.to_vec();
    // The last weight of the last row: that of token 290.
    let end = output.end() as usize;
    bytes[end - 2..end].copy_from_slice(&0x7e00_u16.to_le_bytes());
    let mut model = load_gguf(&bytes, 64).await?;
    let result = generate(&mut model, None, &PROMPT, &greedy(4), &Cancel::default(), |_| {}).await;
    refused("a weight that is not a number", result, "internal", "token 290")?;
    refused("scored with it", score(&mut model, &PROMPT, 0, &Cancel::default()).await, "internal", "token 290")
}
