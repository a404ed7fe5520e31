//! Files made of others: what `helium quantize`, `soup` and `synth` write is read back and compared with what it was
//! made from, weight by weight. No GPU is needed.

#![allow(clippy::unwrap_used, reason = "this is all test code: what it cannot do is a failure")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use helium_webgpu::config::{ModelConfig, WeightId};
use helium_webgpu::convert::{Checkpoint, Preset, Soup, Source, Synth, write};
use helium_webgpu::files::{ModelFiles, find_tokenizer};
use helium_webgpu::format::Dtype;
use helium_webgpu::format::gguf::Value;
use helium_webgpu::recipe::Recipe;
use helium_webgpu::tokenizer::{GgufVocab, Tokenizer, export};

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

/// A file of its own in the folder for temporary ones.
fn out(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(&ModelFiles::find(path).unwrap()).unwrap()
}

/// All weights of a model, as numbers.
fn weights(source: &dyn Source) -> BTreeMap<WeightId, Vec<f32>> {
    let config = source.config();
    let rows = |id: WeightId| match &config.shape(id)[..] {
        [rows, _] => *rows,
        _ => 1,
    };
    config.required().into_iter().map(|id| (id, source.values(id, 0..rows(id)).unwrap())).collect()
}

/// The root of the mean square of the difference, relative to that of the first.
fn error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let power = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let difference = power(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    (difference / power(&mut a.iter().map(|a| f64::from(*a)))).sqrt()
}

/// Helium-1, but small.
fn small_config() -> ModelConfig {
    ModelConfig {
        n_layers: 2,
        vocab_size: 600,
        hidden_size: 512,
        intermediate_size: 1024,
        n_heads: 4,
        n_kv_heads: 2,
        ..Preset::Helium1.config()
    }
}

#[test]
fn every_recipe_keeps_the_weights_to_its_precision() {
    // Halves and adjacent pairs, shards, tied embeddings, and blocks to be decoded first.
    for model in ["llama_bf16", "helium_f32_gqa", "llama_f16_gqa", "gguf_Q8_0", "gguf_K"] {
        let source = open(&data("goldens").join(model));
        let before = weights(&source);
        // Half a step is 1/2 of 1/127, 1/16, 1/8 of the largest weight of a block, which is 2 to 3 deviations.
        for (recipe, most) in
            [(Recipe::F16, 3e-4), (Recipe::Q8_0, 0.01), (Recipe::Q6K, 0.03), (Recipe::Q4KM, 0.09), (Recipe::Q4_0, 0.13)]
        {
            let path = out(&format!("{model}-{}.gguf", recipe.name()));
            let mut done = Vec::new();
            let written = write(&source, recipe, &path, &mut |n, of| done.push((n, of))).unwrap();
            assert_eq!(written.bytes, std::fs::metadata(&path).unwrap().len());
            let n_weights = source.config().parameters();
            assert_eq!(done.last(), Some(&(n_weights, n_weights)));

            let after = open(&path);
            let config = ModelConfig { architecture: "llama".into(), ..source.config().clone() };
            assert_eq!(after.config(), &config, "{model}");
            for (id, found) in weights(&after) {
                let (what, error) = (format!("{model}, {}: {id}", recipe.name()), error(&before[&id], &found));
                match (after.dtype(id), source.dtype(id)) {
                    // Copied, or without a loss.
                    (a, b) if a == b => assert_eq!(error, 0.0, "{what}"),
                    (Some(Dtype::F32), _) => assert_eq!(error, 0.0, "{what}"),
                    _ => assert!(error < most, "{what}: {error}"),
                }
            }
        }
    }
}

#[test]
fn a_file_that_fails_leaves_the_old_one() {
    let path = out("kept.gguf");
    std::fs::write(&path, "what was there").unwrap();
    // f16 cannot hold a weight of this model of f32.
    let mut folder = out("infinite");
    std::fs::create_dir_all(&folder).unwrap();
    for entry in std::fs::read_dir(data("goldens/helium_f32_gqa")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let (_, headers) = ModelFiles::find(&folder).unwrap().headers().unwrap();
    let named = |name| headers.iter().find_map(|(path, header)| Some((path, header.tensor(name)?.offset as usize)));
    let (shard, at) = named("lm_head.weight").unwrap();
    let mut bytes = std::fs::read(shard).unwrap();
    bytes[at..at + 4].copy_from_slice(&1e30_f32.to_le_bytes());
    std::fs::write(shard, bytes).unwrap();
    let failed = write(&open(&folder), Recipe::F16, &path, &mut |_, _| ()).unwrap_err();
    assert_eq!(failed.code(), "corrupt", "{failed}");
    assert!(failed.to_string().contains("too large for F16"), "{failed}");
    assert_eq!(std::fs::read(&path).unwrap(), b"what was there");
    let left = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with("kept.gguf.")), "a part is left");

    folder.push("none/kept.gguf");
    let failed = write(&open(&data("goldens/gguf_F16")), Recipe::F16, &folder, &mut |_, _| ()).unwrap_err();
    assert_eq!(failed.code(), "io", "{failed}");
}

#[test]
fn a_tokenizer_json_becomes_a_vocabulary_that_gives_the_same_ids() {
    #[derive(serde::Deserialize)]
    struct Expected {
        texts: Vec<String>,
        vocabularies: BTreeMap<String, Case>,
    }
    #[derive(serde::Deserialize)]
    struct Case {
        vocab_size: usize,
        ids: Vec<Option<Vec<u32>>>,
    }
    let expected: Expected = serde_json::from_slice(&std::fs::read(data("tokenizers/expected.json")).unwrap()).unwrap();
    for name in ["helium.json", "llama-bpe.json"] {
        let case = &expected.vocabularies[name];
        let bytes = std::fs::read(data("tokenizers").join(name)).unwrap();
        // More rows than tokens, as models whose vocabulary was rounded up.
        let config = ModelConfig { vocab_size: case.vocab_size + 5, ..Preset::Helium1.config() };
        let mut metadata = helium_webgpu::format::gguf::Metadata::empty(name);
        metadata.insert("tokenizer.ggml.precompiled_charsmap", Value::Bool(true)); // of another vocabulary
        export(name, &bytes, &config, &mut metadata).unwrap();
        let tokenizer = Tokenizer::from_gguf(GgufVocab::from_metadata(name, &metadata).unwrap().unwrap()).unwrap();
        assert_eq!(tokenizer.vocab_size(), config.vocab_size);
        assert_eq!(tokenizer.eos_ids(), config.eos_token_ids);
        for (text, ids) in expected.texts.iter().zip(&case.ids) {
            // Special tokens and byte pieces that are written out are found by other rules in a GGUF file.
            let Some(ids) = ids.as_ref().filter(|_| !text.contains('<')) else { continue };
            assert_eq!(&tokenizer.encode(text).unwrap(), ids, "{name}: {text:?}");
            let own = Tokenizer::from_json(name, &bytes).unwrap();
            assert_eq!(tokenizer.decode(ids).unwrap(), own.decode(ids).unwrap(), "{name}: {text:?}");
        }
        let config = ModelConfig { vocab_size: case.vocab_size - 1, ..config };
        let error = export(name, &bytes, &config, &mut metadata).unwrap_err();
        assert_eq!(error.code(), "unsupported-model", "{error}");
    }
}

#[test]
fn a_soup_is_the_weighted_mean() {
    let config = small_config();
    let [a, b] = [1, 2].map(|seed| {
        let path = out(&format!("soup-of-{seed}.gguf"));
        write(&Synth::new("small", config.clone(), seed), Recipe::F16, &path, &mut |_, _| ()).unwrap();
        path
    });
    let named = |path: &Path| (path.display().to_string(), open(path));
    let soup = Soup::new(vec![named(&a), named(&b)], &[3.0, 1.0]).unwrap();
    let (a_weights, b_weights) = (weights(&open(&a)), weights(&open(&b)));
    let path = out("soup.gguf");
    write(&soup, Recipe::F16, &path, &mut |_, _| ()).unwrap();
    for (id, found) in weights(&open(&path)) {
        let pairs = a_weights[&id].iter().zip(&b_weights[&id]);
        let expected: Vec<f32> = pairs.map(|(a, b)| 0.75 * a + 0.25 * b).collect();
        let error = error(&expected, &found);
        assert!(error < 3e-4, "{id}: {error}"); // f16's half a step, relative
    }
    assert!(find_tokenizer(&path).unwrap().is_some(), "the vocabulary is the first one's");

    let refused = |models: Vec<(String, Checkpoint)>, shares: &[f64], word: &str| {
        let error = Soup::new(models, shares).unwrap_err();
        assert_eq!(error.code(), "invalid-argument", "{error}");
        assert!(error.to_string().contains(word), "{error} lacks {word:?}");
    };
    refused(vec![named(&a)], &[1.0], "two or more");
    refused(vec![named(&a), named(&b)], &[1.0], "1 weights were given for 2 models");
    refused(vec![named(&a), named(&b)], &[1.0, -1.0], "-1");
    refused(vec![named(&a), named(&b)], &[0.0, 0.0], "all 0");
    refused(vec![named(&a), named(&data("goldens/llama_f16_gqa"))], &[1.0, 1.0], "cannot be averaged");
}

#[test]
fn random_weights_are_the_same_again_and_have_the_deviation_that_they_should() {
    let small = small_config();
    let synth = |seed| Synth::new("small", small.clone(), seed);
    let (paths, seeds) = ([out("synth-1.gguf"), out("synth-2.gguf"), out("synth-3.gguf")], [1, 1, 2]);
    for (path, seed) in paths.iter().zip(seeds) {
        write(&synth(seed), Recipe::Q4KM, path, &mut |_, _| ()).unwrap();
    }
    let [first, again, other] = paths.each_ref().map(|path| std::fs::read(path).unwrap());
    assert!(first == again && first != other);

    let model = open(&paths[0]);
    assert_eq!(model.config(), &small);
    for (id, values) in weights(&model) {
        let mean_square = values.iter().map(|value| f64::from(value * value)).sum::<f64>() / values.len() as f64;
        let fan_in = small.shape(id).last().copied().unwrap_or(1) as f64;
        let name = id.to_string();
        let expected = match id {
            WeightId::TokenEmbedding => 1.0,
            _ if name.ends_with("norm.weight") => 1.0,
            _ if name.contains("output.weight") && name != "output.weight" || name.contains("down") => {
                1.0 / (fan_in * 4.0)
            }
            _ => 1.0 / fan_in,
        };
        // Of 260,000 weights and more, chance moves a mean square by some 0.3%; quantising adds up to 1%.
        assert!((mean_square / expected - 1.0).abs() < 0.03, "{name}: {mean_square}, expected {expected}");
    }
    // Any text has ids, and they their text.
    let tokenizer = find_tokenizer(&paths[0]).unwrap().unwrap();
    let text = "Žluťoučký kůň, 漢字 🦀";
    assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
}

#[test]
fn presets_have_as_many_weights_as_the_models() {
    let parameters = Preset::ALL.map(|preset| preset.config().parameters());
    assert_eq!(parameters, [2_023_868_416, 2_172_643_840]);
}
