//! Configurations in both spellings, and the refusal by name of everything the engine does not run.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use helium_webgpu::config::{LayerWeight, ModelConfig, RopePairs, WeightId};
use helium_webgpu::error::Error;
use helium_webgpu::format::gguf::{Array, Metadata, Value};
use helium_webgpu::format::{Dtype, Header, TensorInfo};
use serde_json::{Map, json};

/// Helium-1 2B as its config.json describes it, without what the engine does not read.
fn helium_1() -> serde_json::Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
        "vocab_size": 64000, "max_position_embeddings": 4096, "rope_theta": 20000.0, "rms_norm_eps": 1e-8,
        "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false, "hidden_act": "silu",
        "rope_scaling": null, "bos_token_id": 1, "eos_token_id": 2
    })
}

/// The preview, in the spelling of transformers 5.
fn preview() -> serde_json::Value {
    json!({
        "model_type": "helium",
        "hidden_size": 2560, "intermediate_size": 7040, "num_hidden_layers": 24,
        "num_attention_heads": 20, "num_key_value_heads": 20, "head_dim": 128,
        "vocab_size": 48000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-8,
        "rope_parameters": { "rope_theta": 100_000, "rope_type": "default" },
        "tie_word_embeddings": false, "eos_token_id": [2, 3]
    })
}

/// `base` with some fields replaced.
fn with(mut base: serde_json::Value, fields: serde_json::Value) -> serde_json::Value {
    let serde_json::Value::Object(fields) = fields else { panic!("{fields} is no object") };
    base.as_object_mut().unwrap().extend(fields);
    base
}

fn without(mut base: serde_json::Value, key: &str) -> serde_json::Value {
    assert!(base.as_object_mut().unwrap().remove(key).is_some(), "{key} was not there");
    base
}

fn read(config: &serde_json::Value) -> Result<ModelConfig, Error> {
    ModelConfig::from_json("config.json", &config.to_string())
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, code: &str, words: &[&str]) {
    let error = result.expect_err("what should be refused was accepted");
    let message = error.to_string();
    assert_eq!(error.code(), code, "{message}");
    assert!(words.iter().all(|word| message.contains(word)), "{message:?} lacks one of {words:?}");
    assert!(!message.contains('\n') && message.len() < 400, "{message:?} is not one short line");
}

fn tensor(name: &str, shape: &[u64]) -> TensorInfo {
    TensorInfo { name: name.to_owned(), dtype: Dtype::F16, shape: shape.to_vec(), offset: 0, bytes: 0 }
}

/// The GGUF header of a small model with more heads than `hidden_size` has room for.
fn gguf() -> Header {
    let mut metadata = Metadata::empty("m.gguf");
    metadata.insert("general.architecture", Value::Str("llama".to_owned()));
    for (key, value) in [
        ("llama.embedding_length", 64),
        ("llama.feed_forward_length", 96),
        ("llama.block_count", 3),
        ("llama.attention.head_count", 6),
        ("llama.attention.head_count_kv", 2),
        ("llama.attention.key_length", 16),
        ("llama.attention.value_length", 16),
        ("llama.rope.dimension_count", 16),
        ("llama.context_length", 256),
        ("tokenizer.ggml.bos_token_id", 1),
        ("tokenizer.ggml.eos_token_id", 2),
        ("tokenizer.ggml.eot_token_id", 5),
    ] {
        metadata.insert(key, Value::Uint(value));
    }
    metadata.insert("llama.rope.freq_base", Value::F32(20_000.0));
    metadata.insert("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    let tensors = vec![tensor("token_embd.weight", &[300, 64]), tensor("output.weight", &[300, 64])];
    Header { file: "m.gguf".to_owned(), tensors, metadata, header_bytes: 0, data_end: 0 }
}

fn gguf_with(key: &str, value: Value) -> Result<ModelConfig, Error> {
    let mut header = gguf();
    header.metadata.insert(key, value);
    ModelConfig::from_gguf(&header)
}

fn gguf_without(key: &str) -> Result<ModelConfig, Error> {
    let full = gguf();
    let mut metadata = Metadata::empty("m.gguf");
    assert!(full.metadata.contains(key), "{key} was not there");
    for (other, value) in full.metadata.iter().filter(|(other, _)| *other != key) {
        metadata.insert(other, value.clone());
    }
    ModelConfig::from_gguf(&Header { metadata, ..full })
}

#[test]
fn both_helium_models_are_read() {
    let llama = read(&helium_1()).unwrap();
    assert_eq!((llama.architecture.as_str(), llama.rope_pairs), ("llama", RopePairs::Halves));
    assert_eq!((llama.hidden_size, llama.intermediate_size, llama.n_layers), (2048, 8192, 28));
    assert_eq!((llama.n_heads, llama.n_kv_heads, llama.head_dim), (16, 8, 128));
    assert_eq!((llama.vocab_size, llama.context_length), (64_000, 4096));
    assert_eq!((llama.rope_theta, llama.norm_eps), (20_000.0, 1e-8));
    assert_eq!((llama.bos_token_id, llama.eos_token_ids.as_slice()), (Some(1), &[2][..]));
    assert_eq!(llama.parameters(), 2_023_868_416, "as published");

    let preview = read(&preview()).unwrap();
    assert_eq!((preview.architecture.as_str(), preview.rope_pairs), ("helium", RopePairs::Adjacent));
    assert_eq!((preview.rope_theta, preview.bos_token_id), (100_000.0, None));
    assert_eq!(preview.eos_token_ids, [2, 3]);
    assert_eq!(preview.parameters(), 2_172_643_840, "as published");
}

#[test]
fn both_spellings_of_rope_mean_the_same() {
    let flat = read(&helium_1()).unwrap();
    for rope in [
        json!({ "rope_parameters": { "rope_theta": 20000, "rope_type": "default" } }),
        json!({ "rope_parameters": { "rope_theta": 20000.0, "rope_type": "default", "partial_rotary_factor": 1.0 } }),
        json!({ "rope_scaling": { "rope_theta": 20000, "type": "default" } }),
    ] {
        assert_eq!(read(&with(without(helium_1(), "rope_theta"), rope.clone())).unwrap(), flat, "{rope}");
        assert_eq!(read(&with(helium_1(), rope)).unwrap(), flat, "both at once");
    }
    let contradiction = with(helium_1(), json!({ "rope_parameters": { "rope_theta": 10000 } }));
    assert_refused(read(&contradiction), "corrupt", &["rope_parameters.rope_theta", "10000", "20000"]);
}

#[test]
fn absent_fields_take_the_defaults_of_transformers() {
    let mut llama = helium_1();
    for key in [
        "num_key_value_heads",
        "head_dim",
        "rope_theta",
        "rms_norm_eps",
        "tie_word_embeddings",
        "attention_bias",
        "mlp_bias",
        "hidden_act",
        "rope_scaling",
        "bos_token_id",
        "eos_token_id",
    ] {
        llama = without(llama, key);
    }
    let config = read(&llama).unwrap();
    assert_eq!((config.n_kv_heads, config.head_dim), (16, 128));
    assert_eq!((config.rope_theta, config.norm_eps), (10_000.0, 1e-6));
    assert_eq!((config.tie_word_embeddings, config.bos_token_id, config.eos_token_ids.len()), (false, None, 0));
    // null is absent
    let nulls = json!({ "head_dim": null, "num_key_value_heads": null, "rope_theta": null, "eos_token_id": null });
    assert_eq!(read(&with(llama, nulls)).unwrap(), config);

    let helium = read(&without(without(preview(), "rope_parameters"), "rms_norm_eps")).unwrap();
    assert_eq!((helium.rope_theta, helium.norm_eps), (100_000.0, 1e-8));
}

#[test]
fn a_config_json_is_refused_by_the_name_of_the_field() {
    for (fields, name) in [
        (json!({ "model_type": "mistral" }), "model_type"),
        (json!({ "rope_scaling": { "type": "linear", "factor": 2.0 } }), "rope_scaling"),
        (json!({ "rope_scaling": { "factor": 2.0 } }), "rope_scaling.factor"),
        (json!({ "rope_parameters": { "rope_theta": 2e4, "rope_type": "llama3", "factor": 8.0 } }), "rope_parameters"),
        (json!({ "rope_parameters": { "rope_theta": 2e4, "rope_type": "yarn" } }), "rope_parameters.rope_type"),
        (json!({ "rope_parameters": { "full_attention": { "rope_theta": 2e4 } } }), "rope_parameters.full_attention"),
        (json!({ "rope_parameters": { "partial_rotary_factor": 0.5 } }), "rope_parameters.partial_rotary_factor"),
        (json!({ "partial_rotary_factor": 0.5 }), "partial_rotary_factor"),
        (json!({ "attention_bias": true }), "attention_bias"),
        (json!({ "mlp_bias": true }), "mlp_bias"),
        (json!({ "hidden_act": "gelu" }), "hidden_act"),
        (json!({ "sliding_window": 4096 }), "sliding_window"),
        (json!({ "quantization_config": { "quant_method": "gptq", "bits": 4 } }), "gptq"),
        (json!({ "head_dim": 127 }), "127"),
        (json!({ "head_dim": 258 }), "head_dim"),
        (json!({ "hidden_size": 1_u64 << 40 }), "hidden_size"),
        (json!({ "intermediate_size": u64::MAX }), "intermediate_size"),
        (json!({ "num_hidden_layers": 1025 }), "num_hidden_layers"),
        (json!({ "num_attention_heads": 1 << 20 }), "num_attention_heads"),
        (json!({ "vocab_size": (1 << 24) + 1 }), "vocab_size"),
        (json!({ "max_position_embeddings": u64::MAX }), "max_position_embeddings"),
    ] {
        assert_refused(read(&with(helium_1(), fields)), "unsupported-model", &["config.json: ", name]);
    }
    for (fields, words) in [
        (json!({ "hidden_size": 0 }), ["hidden_size", "is 0"]),
        (json!({ "num_hidden_layers": 0 }), ["num_hidden_layers", "is 0"]),
        (json!({ "num_key_value_heads": 0 }), ["num_key_value_heads", "is 0"]),
        (json!({ "num_key_value_heads": 5 }), ["16 query heads", "5"]),
        (json!({ "head_dim": null, "num_attention_heads": 24 }), ["24 heads", "2048"]),
        (json!({ "hidden_size": "2048" }), ["hidden_size", "\"2048\""]),
        (json!({ "hidden_size": 2048.5 }), ["hidden_size", "2048.5"]),
        (json!({ "hidden_size": -1 }), ["hidden_size", "-1"]),
        (json!({ "vocab_size": [64000] }), ["vocab_size", "[64000]"]),
        (json!({ "rope_theta": "20000" }), ["rope_theta", "a number"]),
        (json!({ "rope_theta": 0 }), ["rope_theta", "positive"]),
        (json!({ "rope_theta": -1.0 }), ["rope_theta", "positive"]),
        (json!({ "rope_theta": 1e300 }), ["rope_theta", "positive"]),
        (json!({ "rms_norm_eps": 0.0 }), ["rms_norm_eps", "positive"]),
        (json!({ "rms_norm_eps": 1e-60 }), ["rms_norm_eps", "positive"]),
        (json!({ "rope_scaling": true }), ["rope_scaling", "an object"]),
        (json!({ "tie_word_embeddings": "no" }), ["tie_word_embeddings", "true or false"]),
        (json!({ "bos_token_id": -1 }), ["bos_token_id", "-1"]),
        (json!({ "eos_token_id": [2, "x"] }), ["eos_token_id", "\"x\""]),
        (json!({ "eos_token_id": "x".repeat(100_000) }), ["eos_token_id", "…"]),
        (json!({ "model_type": 7 }), ["model_type", "7"]),
    ] {
        assert_refused(read(&with(helium_1(), fields)), "corrupt", &words);
    }
    for key in [
        "model_type",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "max_position_embeddings",
    ] {
        assert_refused(read(&without(helium_1(), key)), "corrupt", &[key, "missing"]);
    }
    for text in ["", "[]", "{", "null", "{\"model_type\": \"llama\"} x", &"[".repeat(100_000)] {
        assert_refused(ModelConfig::from_json("config.json", text), "corrupt", &["config.json is not"]);
    }
}

#[test]
fn gguf_metadata_is_read() {
    let config = ModelConfig::from_gguf(&gguf()).unwrap();
    let same = json!({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 300,
        "max_position_embeddings": 256, "rope_theta": 20000, "rms_norm_eps": 1e-5, "bos_token_id": 1,
        "eos_token_id": [2, 5]
    });
    // The same model, but for q and k being stored in the other order.
    assert_eq!(config, ModelConfig { rope_pairs: RopePairs::Adjacent, ..read(&same).unwrap() });

    let mut header = gguf();
    header.tensors.pop();
    assert!(ModelConfig::from_gguf(&header).unwrap().tie_word_embeddings, "no output.weight");
    header.tensors.pop();
    assert_refused(ModelConfig::from_gguf(&header), "corrupt", &["token_embd.weight", "missing"]);

    let plain = Value::Str("none".to_owned());
    for (key, value) in [
        ("llama.rope.scaling.type", plain),
        ("llama.rope.scaling.factor", Value::F32(1.0)),
        ("llama.expert_count", Value::Uint(0)),
        ("llama.vocab_size", Value::Uint(300)),
        ("split.count", Value::Uint(1)),
        ("tokenizer.ggml.eos_token_id", Value::Int(2)),
    ] {
        assert_eq!(gguf_with(key, value).expect(key), config);
    }
    assert_eq!(gguf_with("tokenizer.ggml.eot_token_id", Value::Uint(2)).unwrap().eos_token_ids, [2], "each once");
    assert_eq!(gguf_without("llama.attention.head_count_kv").unwrap().n_kv_heads, 6);
    assert_eq!(gguf_without("llama.rope.freq_base").unwrap().rope_theta.to_bits(), 1e4_f64.to_bits());
}

#[test]
fn a_helium_gguf_is_read_by_its_own_keys() {
    let llama = gguf();
    let mut metadata = Metadata::empty("m.gguf");
    for (key, value) in llama.metadata.iter() {
        metadata.insert(key.replace("llama.", "helium."), value.clone());
    }
    metadata.insert("general.architecture", Value::Str("helium".to_owned()));
    let config = ModelConfig::from_gguf(&Header { metadata, ..llama }).unwrap();
    assert_eq!((config.architecture.as_str(), config.rope_pairs), ("helium", RopePairs::Adjacent));
}

#[test]
fn gguf_metadata_is_refused_by_the_name_of_the_key() {
    let text = |text: &str| Value::Str(text.to_owned());
    for (key, value, word) in [
        ("general.architecture", text("gemma3"), "gemma3"),
        ("llama.rope.scaling.type", text("linear"), "linear"),
        ("llama.rope.scaling.type", text("yarn"), "yarn"),
        ("llama.rope.scaling.factor", Value::F32(8.0), "8"),
        ("llama.rope.scale_linear", Value::F32(2.0), "2"),
        ("llama.rope.dimension_count", Value::Uint(8), "8"),
        ("llama.attention.value_length", Value::Uint(32), "32"),
        ("llama.attention.key_length", Value::Uint(512), "512"),
        ("llama.attention.sliding_window", Value::Uint(1024), "1024"),
        ("llama.expert_count", Value::Uint(8), "8"),
        ("llama.attn_logit_softcapping", Value::F32(50.0), "50"),
        ("llama.final_logit_softcapping", Value::F32(30.0), "30"),
        ("llama.attention.clamp_kqv", Value::F32(8.0), "8"),
        ("llama.attention.scale", Value::F32(0.5), "0.5"),
        ("llama.logit_scale", Value::F32(0.5), "0.5"),
        ("llama.embedding_scale", Value::F32(12.0), "12"),
        ("llama.residual_scale", Value::F32(f32::NAN), "NaN"),
        ("llama.block_count", Value::Uint(1 << 40), "1099511627776"),
        ("split.count", Value::Uint(3), "3"),
    ] {
        assert_refused(gguf_with(key, value), "unsupported-model", &["m.gguf", key, word]);
    }
    for (key, value, word) in [
        ("llama.block_count", Value::Uint(0), "is 0"),
        ("llama.block_count", Value::Int(-1), "-1"),
        ("llama.attention.head_count_kv", Value::Uint(4), ""),
        ("llama.feed_forward_length", Value::Array(Array::I32(vec![96; 3])), "an array"),
        ("llama.rope.freq_base", Value::F32(f32::INFINITY), "positive"),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(f32::NAN), "positive"),
        ("tokenizer.ggml.eos_token_id", Value::Uint(1 << 32), "4294967296"),
        ("general.architecture", Value::Uint(1), "a string"),
    ] {
        let named = if word.is_empty() { "6 query heads" } else { key };
        assert_refused(gguf_with(key, value), "corrupt", &["m.gguf", named, word]);
    }
    for key in [
        "general.architecture",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.block_count",
        "llama.attention.head_count",
        "llama.context_length",
        "llama.attention.layer_norm_rms_epsilon",
    ] {
        assert_refused(gguf_without(key), "corrupt", &[key, "missing"]);
    }
    // 6 heads of 64 / 6: only the file can say how wide they are.
    assert_refused(gguf_without("llama.attention.key_length"), "corrupt", &["6 heads", "64"]);
}

#[test]
fn weights_have_one_name_in_each_scheme() {
    let config = ModelConfig::from_gguf(&gguf()).unwrap();
    let required = config.required();
    assert_eq!(required.len(), 3 * 9 + 3);
    for id in &required {
        assert_eq!(config.weight_id(&id.to_string()), Some(*id), "{id}");
    }
    let layer = |layer, weight| Some(WeightId::Layer(layer, weight));
    for (name, id) in [
        ("model.embed_tokens.weight", Some(WeightId::TokenEmbedding)),
        ("model.norm.weight", Some(WeightId::OutputNorm)),
        ("lm_head.weight", Some(WeightId::Output)),
        ("model.layers.0.input_layernorm.weight", layer(0, LayerWeight::AttnNorm)),
        ("model.layers.1.self_attn.q_proj.weight", layer(1, LayerWeight::Q)),
        ("model.layers.1.self_attn.k_proj.weight", layer(1, LayerWeight::K)),
        ("model.layers.1.self_attn.v_proj.weight", layer(1, LayerWeight::V)),
        ("model.layers.1.self_attn.o_proj.weight", layer(1, LayerWeight::O)),
        ("model.layers.1.post_attention_layernorm.weight", layer(1, LayerWeight::FfnNorm)),
        ("model.layers.2.mlp.gate_proj.weight", layer(2, LayerWeight::Gate)),
        ("model.layers.2.mlp.up_proj.weight", layer(2, LayerWeight::Up)),
        ("model.layers.2.mlp.down_proj.weight", layer(2, LayerWeight::Down)),
        ("blk.2.attn_output.weight", layer(2, LayerWeight::O)),
        ("blk.2.ffn_norm.weight", layer(2, LayerWeight::FfnNorm)),
        ("blk.3.attn_q.weight", None), // the layers are 0, 1, 2
        ("blk.02.attn_q.weight", None),
        ("blk.+2.attn_q.weight", None),
        ("blk..attn_q.weight", None),
        ("blk.99999999999999999999999.attn_q.weight", None),
        ("blk.2.self_attn.q_proj.weight", None),
        ("model.layers.2.attn_q.weight", None),
        ("blk.2.attn_q.bias", None),
        ("", None),
    ] {
        assert_eq!(config.weight_id(name), id, "{name}");
    }
}

#[test]
fn tensors_are_checked_against_the_configuration() {
    let config = ModelConfig::from_gguf(&gguf()).unwrap();
    let tied = ModelConfig { tie_word_embeddings: true, ..config.clone() };
    for (name, shape) in [
        ("token_embd.weight", &[300, 64][..]),
        ("output_norm.weight", &[64]),
        ("output.weight", &[300, 64]),
        ("blk.0.attn_norm.weight", &[64]),
        ("blk.0.attn_q.weight", &[96, 64]),
        ("blk.0.attn_k.weight", &[32, 64]),
        ("blk.0.attn_v.weight", &[32, 64]),
        ("blk.0.attn_output.weight", &[64, 96]),
        ("blk.0.ffn_norm.weight", &[64]),
        ("blk.0.ffn_gate.weight", &[96, 64]),
        ("blk.0.ffn_up.weight", &[96, 64]),
        ("blk.0.ffn_down.weight", &[64, 96]),
    ] {
        let id = config.weight_id(name);
        assert!(id.is_some(), "{name}");
        assert_eq!(config.check_tensor("f", &tensor(name, shape)).unwrap(), id);
        let reversed: Vec<u64> = shape.iter().rev().copied().collect();
        for wrong in [&[&[1], shape].concat()[..], &shape[1..], &reversed] {
            if wrong != shape {
                assert_refused(
                    config.check_tensor("f", &tensor(name, wrong)),
                    "corrupt",
                    &[name, "shape", &format!("{shape:?}")],
                );
            }
        }
    }
    for name in ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"] {
        assert_eq!(config.check_tensor("f", &tensor(name, &[8])).unwrap(), None);
    }
    for name in ["lm_head.weight", "output.weight"] {
        assert_eq!(tied.check_tensor("f", &tensor(name, &[300, 64])).unwrap(), None, "the embedding serves");
    }
    assert_eq!(tied.required().len() + 1, config.required().len());
    assert_eq!(tied.parameters() + 300 * 64, config.parameters());

    for (name, word) in [
        ("rope_freqs.weight", "scaled RoPE"),
        ("rope_factors_long.weight", "scaled RoPE"),
        ("blk.0.attn_q.bias", "bias"),
        ("model.layers.0.self_attn.q_proj.bias", "bias"),
        ("model.layers.0.self_attn.q_proj.qweight", "GPTQ"),
        ("model.layers.0.self_attn.q_norm.weight", "not part"),
        ("blk.0.ffn_gate_exps.weight", "not part"),
        ("vision_tower.weight", "not part"),
    ] {
        assert_refused(config.check_tensor("f", &tensor(name, &[8])), "unsupported-model", &["f: ", name, word]);
    }
    for name in ["blk.3.attn_q.weight", "model.layers.28.mlp.up_proj.weight"] {
        assert_refused(config.check_tensor("f", &tensor(name, &[8])), "corrupt", &[name, "3 layers"]);
    }
}

#[test]
fn the_largest_configuration_does_not_overflow() {
    let largest = json!({
        "model_type": "llama", "hidden_size": 1 << 16, "intermediate_size": 1 << 20, "num_hidden_layers": 1024,
        "num_attention_heads": 1024, "head_dim": 256, "vocab_size": 1 << 24, "max_position_embeddings": 1 << 28
    });
    let config = read(&largest).unwrap();
    let layer: u64 = 4 * (1 << 18) * (1 << 16) + 3 * (1 << 36) + 2 * (1 << 16);
    assert_eq!(config.parameters(), 1024 * layer + 2 * (1 << 40) + (1 << 16));
}

#[test]
fn a_configuration_is_written_as_json() {
    let written = serde_json::to_value(read(&preview()).unwrap()).unwrap();
    let fields: &Map<_, _> = written.as_object().unwrap();
    assert_eq!((&fields["architecture"], &fields["rope_pairs"]), (&json!("helium"), &json!("adjacent")));
    assert_eq!((&fields["n_layers"], &fields["eos_token_ids"]), (&json!(24), &json!([2, 3])));
}
