//! Tokenizers against the reference libraries' ids and texts, which `tests/data/make_tokenizers.py`
//! wrote, and against files that are wrong.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use helium_webgpu::Error;
use helium_webgpu::format::gguf::{Array, Metadata, Value};
use helium_webgpu::format::{Progress, parse_header};
use helium_webgpu::tokenizer::{GgufVocab, Tokenizer};

#[derive(serde::Deserialize)]
struct Expected {
    texts: Vec<String>,
    vocabularies: BTreeMap<String, Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    kind: String,
    vocab_size: usize,
    /// For each text; none where the reference does something else on purpose.
    ids: Vec<Option<Vec<u32>>>,
    /// Random ids and their text.
    decoded: Vec<(Vec<u32>, String)>,
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers").join(name)
}

fn read(name: &str) -> Vec<u8> {
    let path = data(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run make_tokenizers.py", path.display()))
}

fn expected() -> Expected {
    serde_json::from_slice(&read("expected.json")).unwrap()
}

fn metadata(name: &str) -> Metadata {
    let bytes = read(name);
    match parse_header(name, &bytes, Some(bytes.len() as u64)).unwrap() {
        Progress::Done(header) => header.metadata,
        Progress::NeedMore(more) => panic!("{name} is whole, but {more} bytes are asked for"),
    }
}

fn from_gguf(name: &str, metadata: &Metadata) -> helium_webgpu::Result<Tokenizer> {
    Tokenizer::from_gguf(GgufVocab::from_metadata(name, metadata)?.expect("the file has a vocabulary"))
}

fn load(name: &str) -> Tokenizer {
    let is_json = Path::new(name).extension().is_some_and(|extension| extension == "json");
    let loaded = if is_json { Tokenizer::from_json(name, &read(name)) } else { from_gguf(name, &metadata(name)) };
    loaded.unwrap_or_else(|error| panic!("{error}"))
}

/// The text of `ids` after the first `n_prompt` of them, as a stream gives it token by token.
fn stream(tokenizer: &Tokenizer, ids: &[u32], n_prompt: usize) -> String {
    let (prompt, rest) = ids.split_at(n_prompt);
    let mut stream = tokenizer.stream_after(prompt);
    let mut text: String = rest.iter().map(|id| stream.push(*id).unwrap()).collect();
    text.push_str(&stream.finish());
    assert_eq!(stream.finish(), "", "a second finish gives nothing more");
    text
}

#[test]
fn ids_are_the_references() {
    let expected = expected();
    assert_eq!(expected.vocabularies.len(), 12, "every vocabulary is compared");
    for (name, case) in &expected.vocabularies {
        let tokenizer = load(name);
        assert_eq!((tokenizer.kind(), tokenizer.vocab_size()), (case.kind.as_str(), case.vocab_size), "{name}");
        assert_eq!(expected.texts.len(), case.ids.len(), "{name}");
        let n_left_out = case.ids.iter().filter(|ids| ids.is_none()).count();
        assert!(n_left_out <= 2, "{name}: {n_left_out} texts are not compared");
        for (text, ids) in expected.texts.iter().zip(&case.ids) {
            if let Some(ids) = ids {
                assert_eq!(&tokenizer.encode(text).unwrap(), ids, "{name}: {text:?}");
            }
        }
    }
}

#[test]
fn texts_of_random_ids_are_the_references() {
    for (name, case) in expected().vocabularies {
        let tokenizer = load(&name);
        for (ids, text) in &case.decoded {
            assert_eq!(&tokenizer.decode(ids).unwrap(), text, "{name}: {ids:?}");
        }
    }
}

#[test]
fn decoding_gives_the_text_back() {
    let expected = expected();
    for (name, case) in &expected.vocabularies {
        let tokenizer = load(name);
        for (text, ids) in expected.texts.iter().zip(&case.ids) {
            let special = ["<s>", "<|endoftext|>", "<0x41>"].iter().any(|special| text.contains(special));
            // Not what these normalise on purpose.
            let is_changed = name.contains("trim") || name.starts_with("helium") && text.contains('\n');
            let is_changed = is_changed || name.starts_with("qwen2") && text.contains("e\u{301}");
            let is_changed = is_changed || !case.kind.contains("byte") && text.contains('\u{2581}');
            if !special && !is_changed {
                let ids = ids.as_ref().expect("only texts with special tokens are not compared");
                assert_eq!(&tokenizer.decode(ids).unwrap(), text, "{name}");
            }
        }
    }
}

#[test]
fn streaming_gives_what_decoding_gives() {
    let expected = expected();
    for (name, case) in &expected.vocabularies {
        let tokenizer = load(name);
        let encoded = expected.texts.iter().map(|text| tokenizer.encode(text).unwrap());
        for ids in encoded.chain(case.decoded.iter().map(|(ids, _)| ids.clone())) {
            let whole = tokenizer.decode(&ids).unwrap();
            for n_prompt in 0..=ids.len() {
                let prompt = tokenizer.decode(&ids[..n_prompt]).unwrap();
                // A prompt may end inside a character, which then comes with the continuation.
                let prompt = if whole.starts_with(&prompt) { &prompt } else { prompt.trim_end_matches('\u{fffd}') };
                let rest = stream(&tokenizer, &ids, n_prompt);
                assert_eq!(format!("{prompt}{rest}"), whole, "{name}: {n_prompt} of {ids:?}");
            }
        }
    }
}

#[test]
fn a_character_comes_whole_with_its_last_byte() {
    let text = "日本 🦀 👨‍👩‍👧";
    for name in ["helium.json", "helium.gguf", "spm-bpe.gguf", "gpt-2.gguf"] {
        let tokenizer = load(name);
        let ids = tokenizer.encode(text).unwrap();
        assert!(ids.len() > text.chars().count(), "{name}: the text should take several tokens a character: {ids:?}");
        let mut stream = tokenizer.stream_after(&ids[..0]);
        let mut so_far = String::new();
        for id in &ids {
            so_far.push_str(&stream.push(*id).unwrap());
            assert!(text.starts_with(&so_far), "{name}: {so_far:?}");
        }
        assert_eq!(so_far, text, "{name}: nothing is held back after the last byte");
        assert_eq!(stream.finish(), "", "{name}");
    }
}

#[test]
fn the_leading_space_belongs_to_the_first_token_only() {
    let tokenizer = load("helium.json");
    let ids = tokenizer.encode("the river").unwrap();
    let bos = &ids[..1];
    assert_eq!(stream(&tokenizer, &ids, 1), "the river");
    assert_eq!(tokenizer.decode(bos).unwrap(), "");
    let river = tokenizer.encode("river").unwrap()[1..].to_vec();
    let after = [bos, &ids[1..], &river].concat();
    assert_eq!(stream(&tokenizer, &after, ids.len()), " river", "after a text the space stays");
    assert_eq!(tokenizer.decode(&after).unwrap(), "the river river");
}

#[test]
fn incomplete_bytes_wait_and_then_become_replacement_characters() {
    let tokenizer = load("spm-bpe.gguf");
    let byte = |byte: u8| tokenizer.token_to_id(&format!("<0x{byte:02X}>")).unwrap();
    let crab: Vec<u32> = "🦀".bytes().map(byte).collect();
    let mut stream = tokenizer.stream_after(&[]);
    for id in &crab[..3] {
        assert_eq!(stream.push(*id).unwrap(), "");
    }
    assert_eq!(stream.finish(), "\u{fffd}\u{fffd}\u{fffd}", "one a byte, as SentencePiece has it");
    // Special tokens spell nothing, not even an end of the character.
    let mut stream = tokenizer.stream_after(&crab[..2]);
    assert_eq!(stream.push(crab[2]).unwrap(), "");
    assert_eq!(stream.push(tokenizer.bos_id().unwrap()).unwrap(), "");
    assert_eq!(stream.push(crab[3]).unwrap(), "🦀");
    // What the prompt's own text already shows is not shown again.
    let a = tokenizer.token_to_id("a").unwrap();
    assert_eq!(tokenizer.decode(&[crab[0], a]).unwrap(), "\u{fffd}a");
    let mut stream = tokenizer.stream_after(&crab[..1]);
    assert_eq!(stream.push(a).unwrap(), "a");
}

#[test]
fn an_unknown_id_is_an_invalid_argument() {
    let tokenizer = load("helium.json");
    let size = u32::try_from(tokenizer.vocab_size()).unwrap();
    let mut stream = tokenizer.stream_after(&[]);
    for error in [tokenizer.decode(&[5, size]).unwrap_err(), stream.push(size).unwrap_err()] {
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains(&size.to_string()) && text.contains("helium.json"), "{text}");
    }
    let the = tokenizer.encode("the").unwrap()[1];
    assert_eq!(stream.push(the).unwrap(), tokenizer.decode(&[the]).unwrap(), "the stream goes on");
    assert_eq!(tokenizer.piece(size), None);
}

#[test]
fn pieces_and_special_ids_are_the_files() {
    for name in ["helium.json", "helium.gguf"] {
        let tokenizer = load(name);
        assert_eq!(tokenizer.bos_id(), Some(1), "{name}");
        assert_eq!(tokenizer.piece(1).as_deref(), Some("<s>"), "{name}");
        for id in 0..u32::try_from(tokenizer.vocab_size()).unwrap() {
            let piece = tokenizer.piece(id).unwrap();
            assert_eq!(tokenizer.token_to_id(&piece), Some(id), "{name}: {piece:?}");
        }
    }
    assert_eq!(load("helium.gguf").eos_ids(), [2]);
    assert_eq!(load("helium.json").eos_ids(), [0; 0], "a tokenizer.json names no end");
    assert_eq!(load("qwen2.gguf").bos_id(), Some(0), "known although it is not added");
}

#[test]
fn bos_and_eos_are_added_as_the_file_says() {
    let ids = |pairs: &[(&str, bool)]| {
        let mut metadata = metadata("spm-bpe.gguf");
        for (key, value) in pairs {
            metadata.insert(format!("tokenizer.ggml.{key}"), Value::Bool(*value));
        }
        from_gguf("spm-bpe.gguf", &metadata).unwrap().encode("").unwrap()
    };
    assert_eq!(ids(&[]), [1], "SentencePiece vocabularies add BOS where the file does not say");
    assert_eq!(ids(&[("add_bos_token", false)]), [0; 0]);
    assert_eq!(ids(&[("add_bos_token", true), ("add_eos_token", true)]), [1, 2]);
    assert_eq!(load("gpt-2.gguf").encode("").unwrap(), [0; 0]);
    assert_eq!(load("llama-bpe.gguf").encode("").unwrap(), [0], "llama-bpe adds it where the file does not say");
}

#[test]
fn a_space_before_byte_level_text_is_added_as_the_file_says() {
    let mut metadata = metadata("smollm.gguf");
    let plain = from_gguf("smollm.gguf", &metadata).unwrap();
    metadata.insert("tokenizer.ggml.add_space_prefix", Value::Bool(true));
    let prefixed = from_gguf("smollm.gguf", &metadata).unwrap();
    for text in ["the river 12", "éa", "\nx", ""] {
        let spaced = if text.is_empty() { String::new() } else { format!(" {text}") };
        assert_eq!(prefixed.encode(text).unwrap(), plain.encode(&spaced).unwrap(), "{text:?}");
    }
    assert_eq!(prefixed.encode(" x").unwrap(), plain.encode(" x").unwrap(), "a space that is there serves");
}

#[test]
fn listed_merges_do_the_same_as_scores() {
    // `ab` before `bc` before `abc`, by scores and by list.
    let tokens = ["<unk>", "a", "b", "c", "ab", "bc", "abc", "aa", "aba", "ba"];
    let scores = [0.0, -9.0, -8.0, -7.0, -1.0, -2.0, -3.0, -4.0, -6.0, -5.0];
    let mut metadata = vocabulary("llama", &tokens);
    metadata.insert("tokenizer.ggml.scores", Value::Array(Array::F32(scores.to_vec())));
    metadata.insert("tokenizer.ggml.add_space_prefix", Value::Bool(false));
    let pieces = |metadata: &Metadata, text: &str| -> Vec<String> {
        let tokenizer = from_gguf("test.gguf", metadata).unwrap();
        assert_eq!(tokenizer.kind(), "bpe");
        tokenizer.encode(text).unwrap().iter().map(|id| tokenizer.piece(*id).unwrap()).collect()
    };
    assert_eq!(pieces(&metadata, "abcbcaa"), ["abc", "bc", "aa"]);
    // Two ways to `aba` compete for the `a` between: the left one wins.
    assert_eq!(pieces(&metadata, "ababa"), ["ab", "aba"]);
    let merges = ["a b", "b c", "ab c", "a bc", "a a"].map(str::to_owned).to_vec();
    metadata.insert("tokenizer.ggml.merges", Value::Array(Array::Str(merges)));
    assert_eq!(pieces(&metadata, "abcbcaa"), ["abc", "bc", "aa"]);
    assert_eq!(pieces(&metadata, "ababa"), ["ab", "ab", "a"], "and what is not listed is not merged");
}

fn vocabulary(model: &str, tokens: &[&str]) -> Metadata {
    let mut metadata = Metadata::empty("test.gguf");
    let types = tokens.iter().map(|token| if *token == "<unk>" { 2 } else { 1 }).collect();
    let tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
    metadata.insert("tokenizer.ggml.model", Value::Str(model.to_owned()));
    metadata.insert("tokenizer.ggml.tokens", Value::Array(Array::Str(tokens)));
    metadata.insert("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    metadata
}

#[test]
fn a_file_without_a_vocabulary_has_none() {
    assert!(GgufVocab::from_metadata("x", &Metadata::empty("x")).unwrap().is_none());
    let mut metadata = Metadata::empty("x");
    metadata.insert("tokenizer.ggml.model", Value::Str("none".to_owned()));
    assert!(GgufVocab::from_metadata("x", &metadata).unwrap().is_none());
}

/// Asserts an error of the kind `code`, on one line, that names the file and says all of `parts`.
fn assert_error(error: &Error, code: &str, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.code(), code, "{text}");
    assert!(!text.contains(char::is_control) && text.len() < 600, "{text:?}");
    for part in parts.iter().chain(&["test."]) {
        assert!(text.contains(part), "{part:?} should be in {text:?}");
    }
}

#[test]
fn wrong_gguf_vocabularies_are_refused() {
    let spm = || metadata("spm-bpe.gguf");
    let bpe = || metadata("gpt-2.gguf");
    let text = |text: &str| Value::Str(text.to_owned());
    let floats = |items: &[f32]| Value::Array(Array::F32(items.to_vec()));
    let mut spm_floats = vec![0.0; 900];
    spm_floats[500] = f32::NAN;
    let merges = |merge: &str| Value::Array(Array::Str(vec![merge.to_owned()]));
    let cases: Vec<(Metadata, &str, Value, &str, &[&str])> = vec![
        (spm(), "model", text("bert"), "unsupported-model", &["\"bert\"", "\"llama\"", "tokenizer.json"]),
        (spm(), "model", text("x\ny"), "unsupported-model", &["x\\ny"]),
        (spm(), "model", Value::Uint(1), "corrupt", &["a string", "the integer 1"]),
        (spm(), "tokens", Value::Array(Array::Str(vec![])), "corrupt", &["0 tokens"]),
        (
            spm(),
            "tokens",
            Value::Array(Array::Str(vec!["a".to_owned()])),
            "corrupt",
            &["bos_token_id is 1", "1 tokens"],
        ),
        (spm(), "tokens", floats(&[1.0]), "corrupt", &["strings"]),
        (spm(), "tokens", Value::Array(Array::Str(vec!["a".to_owned(); 900])), "corrupt", &["0 and 1", "\"a\""]),
        (spm(), "scores", floats(&[1.0]), "corrupt", &["scores", "900", "1"]),
        (spm(), "scores", floats(&spm_floats), "corrupt", &["scores[500]", "NaN"]),
        (spm(), "scores", floats(&[-1000.0; 900]), "unsupported-model", &["-1000", "tokenizer.json"]),
        (spm(), "token_type", Value::Array(Array::I32(vec![1])), "corrupt", &["token_type", "900"]),
        (spm(), "bos_token_id", Value::Uint(900), "corrupt", &["bos_token_id is 900"]),
        (spm(), "unknown_token_id", Value::Uint(1 << 40), "corrupt", &["unknown_token_id"]),
        (spm(), "add_bos_token", Value::Uint(1), "corrupt", &["add_bos_token"]),
        (spm(), "merges", merges("ab"), "corrupt", &["merges[0]", "\"ab\""]),
        (
            spm(),
            "precompiled_charsmap",
            Value::Array(Array::U8(vec![1])),
            "unsupported-model",
            &["precompiled_charsmap"],
        ),
        (
            bpe(),
            "pre",
            text("bloom"),
            "unsupported-model",
            &["\"bloom\"", "\"smollm\"", "\"default\"", "tokenizer.json"],
        ),
        (bpe(), "merges", merges("a b c"), "corrupt", &["merges[0]"]),
        (bpe(), "merges", merges("a "), "corrupt", &["merges[0]"]),
        (bpe(), "merges", merges("a <no>"), "corrupt", &["<no>"]),
        (bpe(), "merges", Value::Bool(true), "corrupt", &["merges"]),
    ];
    for (mut metadata, key, value, code, parts) in cases {
        metadata.insert(format!("tokenizer.ggml.{key}"), value);
        let error = from_gguf("test.gguf", &metadata).expect_err(key);
        // Wrong types are the metadata's own errors, which name the file that they came from.
        let is_type = error.to_string().contains("metadata key");
        let error = if is_type { Error::Corrupt(format!("test.gguf: {error}")) } else { error };
        assert_error(&error, code, parts);
    }
    assert_error(&from_gguf("test.gguf", &vocabulary("llama", &["a"])).unwrap_err(), "corrupt", &["scores is missing"]);
    assert_error(&from_gguf("test.gguf", &vocabulary("gpt2", &["a"])).unwrap_err(), "corrupt", &["merges is missing"]);
    let mut metadata = vocabulary("gpt2", &["a"]);
    metadata.insert("tokenizer.ggml.merges", Value::Array(Array::Str(vec![])));
    metadata.insert("tokenizer.ggml.add_bos_token", Value::Bool(true));
    assert_error(&from_gguf("test.gguf", &metadata).unwrap_err(), "corrupt", &["bos_token_id is missing"]);
}

#[test]
fn wrong_tokenizer_json_is_refused() {
    let part = |name: &str, json: &str| {
        let mut file: serde_json::Value = serde_json::from_slice(&read("helium.json")).unwrap();
        file[name] = serde_json::from_str(json).unwrap();
        file.to_string()
    };
    let bpe = |rest: &str| part("model", &format!(r#"{{"type":"BPE","vocab":{{"<s>":1,"a":0}},"merges":[]{rest}}}"#));
    let cases: Vec<(String, &str, &[&str])> = vec![
        (String::new(), "corrupt", &["complete"]),
        ("<html>".to_owned(), "corrupt", &["right file"]),
        ("{}".to_owned(), "corrupt", &["model"]),
        ("[1]".to_owned(), "corrupt", &["not a tokenizer.json"]),
        (r#"{"model":1}"#.to_owned(), "corrupt", &["model"]),
        (r#"{"model":{"type":"BPE"}}"#.to_owned(), "corrupt", &["model"]),
        (r#"{"model":{"type":"WordPiece","vocab":{}}}"#.to_owned(), "unsupported-model", &["\"WordPiece\"", "Unigram"]),
        (r#"{"model":{"type":"Unigram","vocab":[]}}"#.to_owned(), "corrupt", &["empty"]),
        (r#"{"model":{"type":"Unigram","vocab":[["a",0]],"unk_id":7}}"#.to_owned(), "corrupt", &["unk_id is 7", "1"]),
        (r#"{"model":{"type":"Unigram","vocab":[],"unk_id":0}}"#.to_owned(), "corrupt", &["unk_id is 0", "0"]),
        (r#"{"model":{"type":"Unigram","vocab":[["a",1e999]]}}"#.to_owned(), "corrupt", &["model", "number"]),
        (r#"{"model":{"type":"Unigram","vocab":{"a":0}}}"#.to_owned(), "corrupt", &["model", "list"]),
        (r#"{"model":{"type":7,"vocab":[]}}"#.to_owned(), "corrupt", &["model", "type"]),
        (r#"{"model":["Unigram",[["a",0]]]}"#.to_owned(), "corrupt", &["model", "object"]),
        (r#"{"model":{"type":"Unigram","vocab":[["a","x\ny"]]}}"#.to_owned(), "corrupt", &["model"]),
        (bpe(r#","continuing_subword_prefix":"xxxx""#), "unsupported-model", &["continuing_subword_prefix"]),
        (part("model", r#"{"vocab":{"a":4294967295},"merges":[]}"#), "corrupt", &["id"]),
        (part("model", r#"{"vocab":{"a":0},"merges":[["a","b"]]}"#), "corrupt", &["`b`"]),
        (part("normalizer", r#"{"type":"Precompiled","precompiled_charsmap":"AAAA"}"#), "corrupt", &["normalizer"]),
        (
            part("normalizer", r#"{"type":"Replace","pattern":{"Regex":"^(?=x)|$"},"content":" "}"#),
            "unsupported-model",
            &["normalizer"],
        ),
        (part("normalizer", r#"{"type":"New"}"#), "unsupported-model", &["\"New\"", "Prepend"]),
        (part("normalizer", r#"{"type":"Sequence","normalizers":7}"#), "corrupt", &["normalizers"]),
        (part("pre_tokenizer", r#"{"type":"FixedLength","length":0}"#), "unsupported-model", &["FixedLength"]),
        (
            part("pre_tokenizer", r#"{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated","invert":false}"#),
            "corrupt",
            &["pre_tokenizer"],
        ),
        (part("decoder", r#"{"type":"Strip","content":" ","start":1,"stop":9}"#), "unsupported-model", &["Strip"]),
        (part("decoder", r#"{"type":"CTC"}"#), "unsupported-model", &["CTC"]),
        (part("decoder", "7"), "corrupt", &["decoder"]),
        (
            part(
                "post_processor",
                r#"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<x>"}}],"special_tokens":{}}"#,
            ),
            "corrupt",
            &["\"<x>\""],
        ),
        (
            part("post_processor", r#"{"type":"TemplateProcessing","single":[{"Sequence":{"id":"B"}}]}"#),
            "corrupt",
            &["template"],
        ),
        (part("post_processor", r#"{"type":"BertProcessing","cls":["a",9999],"sep":["b",1]}"#), "corrupt", &["9999"]),
        (
            part(
                "added_tokens",
                r#"[{"id":77,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}]"#,
            ),
            "corrupt",
            &["77"],
        ),
    ];
    for (json, code, parts) in cases {
        match Tokenizer::from_json("test.json", json.as_bytes()) {
            Err(error) => assert_error(&error, code, parts),
            Ok(_) => panic!("{} should be refused", &json[..json.len().min(300)]),
        }
    }
}

#[test]
fn padding_and_truncation_are_not_applied() {
    let mut file: serde_json::Value = serde_json::from_slice(&read("helium.json")).unwrap();
    file["truncation"] =
        serde_json::json!({"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0});
    file["padding"] = serde_json::json!({"strategy": {"Fixed": 4_000_000_000_u32}, "direction": "Right", "pad_to_multiple_of": 0,
        "pad_id": 3, "pad_type_id": 0, "pad_token": "<pad>"});
    let tokenizer = Tokenizer::from_json("test.json", file.to_string().as_bytes()).unwrap();
    assert_eq!(tokenizer.encode("a\nb").unwrap(), load("helium.json").encode("a\nb").unwrap());
}

#[test]
fn damaged_files_never_panic() {
    // A file cut anywhere, and one with any one byte changed: an error or a tokenizer, never a panic.
    for name in ["llama-bpe.json", "helium.json"] {
        let whole = read(name);
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below as u64).unwrap()
        };
        for len in
            [0, 1, whole.len() - 2].into_iter().chain((0..200).map(|_| random(whole.len() - 1)).collect::<Vec<_>>())
        {
            let error = Tokenizer::from_json("test.json", &whole[..len]).expect_err("it is cut");
            assert_error(&error, "corrupt", &[]);
        }
        // Where the parts are described, and everywhere.
        let model = String::from_utf8_lossy(&whole).find("\"model\"").unwrap();
        for range in [model, whole.len()] {
            for _ in 0..200 {
                let mut damaged = whole.clone();
                damaged[random(range)] = b"{}[]\",:01-tfn\\ "[random(15)];
                match Tokenizer::from_json("test.json", &damaged) {
                    Err(error) => assert_error(&error, error.code(), &[]),
                    Ok(tokenizer) => {
                        let ids = tokenizer.encode("Łódź 12\r\n 🦀 <s>").unwrap_or_default();
                        tokenizer.decode(&ids).unwrap();
                    }
                }
            }
        }
    }
}
