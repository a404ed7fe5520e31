//! Model files as they should be, and as they should not: block formats against fixtures, headers
//! against a writer of their own here, and both against truncation, flipped bits and absurd lengths.
//!
//! The fixtures in data/blocks are what the `gguf` Python package makes; `data/make_blocks.py` wrote them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use helium_webgpu::config::ModelConfig;
use helium_webgpu::error::Error;
use helium_webgpu::format::blocks::{decode_row, encode_row};
use helium_webgpu::format::gguf::{Array, Value};
use helium_webgpu::format::repack;
use helium_webgpu::format::safetensors::Index;
use helium_webgpu::format::{Dtype, Header, Progress, parse_header};

// ---------------------------------------------------------------------------------------- blocks

/// Weights in a row of the fixtures.
const COLS: usize = 512;

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/blocks").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run tests/data/make_blocks.py", path.display()))
}

fn floats(name: &str) -> Vec<f32> {
    fixture(name).as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn every_type_decodes_bit_for_bit_as_the_gguf_package_does() {
    for dtype in Dtype::ALL {
        let name = dtype.name();
        let (bytes, expected) = (fixture(&format!("{name}.blocks")), floats(&format!("{name}.f32")));
        let row_bytes = usize::try_from(dtype.row_bytes(COLS as u64).unwrap()).unwrap();
        assert_eq!(bytes.len() / row_bytes, expected.len() / COLS, "{name}: rows");
        for (row, (bytes, expected)) in bytes.chunks(row_bytes).zip(expected.chunks(COLS)).enumerate() {
            // NaN, so that a weight left unwritten shows.
            let mut found = vec![f32::NAN; COLS];
            decode_row(dtype, bytes, &mut found).unwrap();
            for (col, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_eq!(
                    found.to_bits(),
                    expected.to_bits(),
                    "{name} row {row} weight {col}: {found:e} instead of {expected:e}"
                );
            }
        }
    }
}

#[test]
fn rows_on_the_device_are_at_most_2_percent_larger() {
    // Rows of Helium-1, of the preview, and of SmolLM2.
    for cols in [2048, 8192, 2560, 7040, 576, 1536] {
        for dtype in Dtype::ALL {
            let Some(in_file) = dtype.row_bytes(cols) else { continue };
            let layout = repack::Layout::new(dtype, cols as usize);
            let on_device = 4 * (layout.quants_row_words() + layout.aux_row_words()) as u64;
            assert!(on_device * 100 <= in_file * 102, "{}, {cols} weights: {on_device} for {in_file}", dtype.name());
        }
    }
}

#[test]
fn encoders_write_the_bytes_that_the_gguf_package_does() {
    let values = floats("values.f32");
    for dtype in [Dtype::F16, Dtype::BF16, Dtype::Q8_0, Dtype::Q4_0, Dtype::Q4_1, Dtype::Q5_0] {
        let name = dtype.name();
        let mut found = Vec::new();
        for row in values.chunks(COLS) {
            encode_row(dtype, row, &mut found).unwrap();
        }
        let expected = fixture(&format!("{name}.encoded"));
        assert_eq!(found.len(), expected.len(), "{name}: bytes");
        let differing: Vec<usize> = (0..found.len()).filter(|at| found[*at] != expected[*at]).collect();
        assert!(differing.is_empty(), "{name}: bytes {differing:?} of {} differ", expected.len());
    }
    let mut found = Vec::new();
    encode_row(Dtype::F32, &values, &mut found).unwrap();
    assert!(found == fixture("values.f32"), "F32 is not what went in");
}

/// What a row becomes when it is encoded and decoded.
fn there_and_back(dtype: Dtype, row: &[f32]) -> Vec<f32> {
    let (mut bytes, mut found) = (Vec::new(), vec![f32::NAN; row.len()]);
    encode_row(dtype, row, &mut bytes).unwrap();
    decode_row(dtype, &bytes, &mut found).unwrap();
    found
}

/// Root mean square, in f64.
fn rms(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    (values.map(|value| value * value).sum::<f64>() / n).sqrt()
}

fn relative_error(found: &[f32], row: &[f32]) -> f64 {
    let difference = rms(found.iter().zip(row).map(|(found, w)| f64::from(found - w)));
    difference / rms(row.iter().map(|w| f64::from(*w)))
}

/// The `gguf` package has no encoder for these, so what counts is how near the weights come. A uniform
/// quantiser's error is its step / sqrt(12). Normal weights of unit variance span some 4.1 in groups of 32,
/// so 15 steps of `Q4_K` give 0.080; in groups of 16 the furthest is at some 2.0, so 32 steps of `Q6_K` give
/// 0.018. A search that worked finds better; one that did not, or a nibble in the wrong place, does not.
#[test]
fn k_encoders_come_near_the_weights() {
    let row: Vec<f32> = {
        let mut random = Random(3);
        let mut uniform = || random.below(1 << 24) as f32 / (1 << 24) as f32;
        // The sum of twelve uniform numbers is near enough to normal.
        (0..64 * 256).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
    };
    for (dtype, bound) in [(Dtype::Q4K, 0.080), (Dtype::Q6K, 0.018)] {
        let name = dtype.name();
        let error = relative_error(&there_and_back(dtype, &row), &row);
        assert!(error < bound, "{name}: a relative error of {error}");
        for scaled in [1e-3, 300.0] {
            let row: Vec<f32> = row.iter().map(|w| w * scaled).collect();
            let error = relative_error(&there_and_back(dtype, &row), &row);
            // Scales near f16's subnormal range round more coarsely.
            assert!(error < bound * 1.1, "{name} at scale {scaled}: a relative error of {error}");
        }
        // Blocks of zeros, of a constant, with an outlier, tiny, and whatever else values.f32 has.
        for row in floats("values.f32").chunks(COLS) {
            let found = there_and_back(dtype, row);
            for (block, (found, row)) in found.chunks(256).zip(row.chunks(256)).enumerate() {
                let furthest = row.iter().fold(0.0_f32, |max, w| max.max(w.abs()));
                for (found, w) in found.iter().zip(row) {
                    // Half a step of the widest sub-block (2 · furthest / 15), and the rounding of scale and
                    // minimum to 6 bits, half of 1/63 of them each.
                    let bound = furthest * (1.0 / 15.0 + 2.5 / 63.0);
                    assert!((found - w).abs() <= bound, "{name} block {block}: {w} became {found}");
                }
            }
        }
        let zeros = there_and_back(dtype, &[0.0; 256]);
        assert!(zeros.iter().all(|w| *w == 0.0), "{name}: zeros became {zeros:?}");
    }
    // What a block can hold exactly comes back nearly so: equidistant values, the outermost in each sub-block.
    let fours = |i: u8| f32::from(i.wrapping_mul(7) % 16) - 5.0;
    let sixes = |i: u8| if i.is_multiple_of(16) { -32.0 } else { f32::from(i.wrapping_mul(7) % 64) - 32.0 };
    for (dtype, ramp) in
        [(Dtype::Q4K, (0..=255).map(fours).collect::<Vec<_>>()), (Dtype::Q6K, (0..=255).map(sixes).collect())]
    {
        let error = relative_error(&there_and_back(dtype, &ramp), &ramp);
        // f16 keeps 11 bits of the scales; a wrong quantum anywhere adds ten times as much.
        assert!(error < 1e-3, "{}: a ramp came back with a relative error of {error}", dtype.name());
    }
}

#[test]
fn encoders_refuse_what_has_no_encoding_and_leave_the_output_as_it_was() {
    let row = |value: f32| {
        let mut row = vec![0.5; 512];
        row[300] = value;
        row
    };
    let refused = |dtype: Dtype, row: &[f32], code: &str, word: &str| {
        let mut out = vec![1, 2, 3];
        let error = encode_row(dtype, row, &mut out).expect_err(dtype.name());
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(word), "{error} lacks {word:?}");
        assert_eq!(out, [1, 2, 3], "{}: the output changed", dtype.name());
    };
    for dtype in [Dtype::Q8_0, Dtype::Q4_0, Dtype::Q4_1, Dtype::Q5_0, Dtype::Q4K, Dtype::Q6K] {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            refused(dtype, &row(value), "corrupt", "has no encoding");
        }
        refused(dtype, &row(3e38), "corrupt", "too large"); // the scale, as f16
        refused(dtype, &row(0.5)[1..], "internal", "multiple");
    }
    refused(Dtype::F16, &row(65520.0), "corrupt", "too large"); // the least that rounds to infinity
    refused(Dtype::BF16, &row(f32::MAX), "corrupt", "too large");
    for dtype in Dtype::ALL {
        if encode_row(dtype, &row(0.5), &mut Vec::new()).is_err() {
            refused(dtype, &row(0.5), "unsupported-model", dtype.name());
        }
    }
}

#[test]
fn decoding_into_the_wrong_length_is_an_error() {
    for dtype in Dtype::ALL {
        let bytes = vec![0; dtype.block_bytes() * 2];
        for len in [0, dtype.block_len(), dtype.block_len() * 2 - 1, dtype.block_len() * 3] {
            let error = decode_row(dtype, &bytes, &mut vec![0.0; len]).expect_err(dtype.name());
            assert_eq!(error.code(), "internal", "{error}");
        }
    }
}

#[test]
fn type_numbers_go_both_ways() {
    for dtype in Dtype::ALL {
        assert_eq!(Dtype::from_gguf(dtype.gguf_number()), Some(dtype));
    }
    let known = (0..1000).filter(|number| Dtype::from_gguf(*number).is_some()).count();
    assert_eq!(known, Dtype::ALL.len());
}

// --------------------------------------------------------------------------- a writer of test files

const U32: u32 = 4;
const F32: u32 = 6;
const STR: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of a value, little-endian.
fn str_bytes(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn array_bytes(kind: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

/// A tensor as a GGUF file describes it: the innermost dimension first.
struct Tensor {
    name: String,
    dims: Vec<u64>,
    kind: u32,
    offset: u64,
}

/// A GGUF file under construction. It checks nothing, so that it can be wrong.
struct Gguf {
    version: u32,
    pairs: Vec<(String, u32, Vec<u8>)>,
    tensors: Vec<Tensor>,
    alignment: usize,
    data_bytes: usize,
}

impl Gguf {
    fn new() -> Self {
        Self { version: 3, pairs: Vec::new(), tensors: Vec::new(), alignment: 32, data_bytes: 0 }
    }

    fn pair(mut self, key: &str, kind: u32, value: impl AsRef<[u8]>) -> Self {
        self.pairs.push((key.to_owned(), kind, value.as_ref().to_vec()));
        self
    }

    /// A tensor at `offset`, without making room for its data.
    fn tensor_at(mut self, offset: u64, name: &str, kind: u32, dims: &[u64]) -> Self {
        self.tensors.push(Tensor { name: name.to_owned(), dims: dims.to_vec(), kind, offset });
        self
    }

    /// A tensor behind those before it.
    fn tensor(mut self, name: &str, dtype: Dtype, dims: &[u64]) -> Self {
        let offset = self.data_bytes.next_multiple_of(self.alignment);
        let rows: u64 = dims[1..].iter().product();
        self.data_bytes = offset + usize::try_from(dtype.row_bytes(dims[0]).unwrap() * rows).unwrap();
        self.tensor_at(offset as u64, name, dtype.gguf_number(), dims)
    }

    fn header(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.pairs {
            out.extend(str_bytes(key));
            out.extend(kind.to_le_bytes());
            out.extend(value);
        }
        for tensor in &self.tensors {
            out.extend(str_bytes(&tensor.name));
            out.extend(u32::try_from(tensor.dims.len()).unwrap().to_le_bytes());
            out.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.to_le_bytes());
        }
        out
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = self.header();
        out.resize(out.len().next_multiple_of(self.alignment) + self.data_bytes, 0);
        out
    }
}

/// A complete tiny Llama, with a vocabulary.
fn tiny_gguf() -> Gguf {
    let mut gguf = Gguf::new()
        .pair("general.architecture", STR, str_bytes("llama"))
        .pair("llama.attention.layer_norm_rms_epsilon", F32, 1e-5_f32.to_le_bytes())
        .pair("llama.rope.freq_base", F32, 10_000_f32.to_le_bytes());
    for (key, value) in [
        ("llama.embedding_length", 32_u32),
        ("llama.feed_forward_length", 64),
        ("llama.block_count", 1),
        ("llama.attention.head_count", 4),
        ("llama.attention.head_count_kv", 2),
        ("llama.context_length", 128),
        ("tokenizer.ggml.eos_token_id", 2),
    ] {
        gguf = gguf.pair(key, U32, value.to_le_bytes());
    }
    let tokens = ["<unk>", "<s>", "</s>", "▁"].map(str_bytes).concat();
    let scores = [0.0_f32, -1.0, -2.0, -3.0].map(f32::to_le_bytes).concat();
    gguf.pair("tokenizer.ggml.tokens", ARRAY, array_bytes(STR, 4, &tokens))
        .pair("tokenizer.ggml.scores", ARRAY, array_bytes(F32, 4, &scores))
        .tensor("token_embd.weight", Dtype::Q8_0, &[32, 4])
        .tensor("output_norm.weight", Dtype::F32, &[32])
        .tensor("blk.0.attn_norm.weight", Dtype::F32, &[32])
        .tensor("blk.0.attn_q.weight", Dtype::Q4_0, &[32, 32])
        .tensor("blk.0.attn_k.weight", Dtype::Q4_0, &[32, 16])
        .tensor("blk.0.attn_v.weight", Dtype::F16, &[32, 16])
        .tensor("blk.0.attn_output.weight", Dtype::Q4_1, &[32, 32])
        .tensor("blk.0.ffn_norm.weight", Dtype::F32, &[32])
        .tensor("blk.0.ffn_gate.weight", Dtype::Q5_0, &[32, 64])
        .tensor("blk.0.ffn_up.weight", Dtype::Q5_1, &[32, 64])
        .tensor("blk.0.ffn_down.weight", Dtype::BF16, &[64, 32])
}

fn safetensors(json: &str, data_bytes: usize) -> Vec<u8> {
    let mut out = [&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat();
    out.resize(out.len() + data_bytes, 0);
    out
}

const TINY_SAFETENSORS: &str = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[3,4],"data_offsets":[8,32]},
    "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"c":{"dtype":"F16","shape":[],"data_offsets":[32,34]}}  "#;

fn tiny_safetensors() -> Vec<u8> {
    safetensors(TINY_SAFETENSORS, 34)
}

fn parse(bytes: &[u8]) -> Result<Progress, Error> {
    parse_header("m", bytes, Some(bytes.len() as u64))
}

fn parsed(bytes: &[u8]) -> Header {
    match parse(bytes).unwrap() {
        Progress::Done(header) => header,
        Progress::NeedMore(n) => panic!("a complete file of {} bytes: asked for {n}", bytes.len()),
    }
}

/// The message with which the file is refused, with and without its size being known.
fn refusal(bytes: &[u8], code: &str) -> String {
    let error = parse(bytes).expect_err("a file that is not acceptable was accepted");
    assert_eq!(error.code(), code, "{error}");
    let message = error.to_string();
    assert!(
        message.starts_with('m') && !message.contains('\n'),
        "{message:?} is not one line that begins with the file"
    );
    message
}

#[track_caller]
fn assert_refused(bytes: &[u8], code: &str, words: &[&str]) {
    let message = refusal(bytes, code);
    for word in words {
        assert!(message.contains(word), "{message:?} lacks {word:?}");
    }
}

// ------------------------------------------------------------------------------------ good headers

#[test]
fn gguf_versions_2_and_3_parse() {
    for version in [2, 3] {
        let gguf = Gguf { version, ..tiny_gguf() };
        let bytes = gguf.bytes();
        let header = parsed(&bytes);
        assert_eq!(header.header_bytes, gguf.header().len().next_multiple_of(32) as u64);
        assert_eq!(header.data_end, bytes.len() as u64);
        assert_eq!(header.metadata.len(), gguf.pairs.len());
        assert_eq!(header.metadata.str_array("tokenizer.ggml.tokens").unwrap().unwrap()[3], "▁");
        assert_eq!(*header.metadata.f32_array("tokenizer.ggml.scores").unwrap().unwrap(), [0.0, -1.0, -2.0, -3.0]);
        let v = header.tensor("blk.0.attn_v.weight").unwrap();
        assert_eq!((v.dtype, v.shape.as_slice(), v.bytes), (Dtype::F16, &[16, 32][..], 1024), "outermost first");
        assert_eq!((v.rows(), v.cols()), (16, 32));
        let config = ModelConfig::from_gguf(&header).unwrap();
        for tensor in &header.tensors {
            assert!(config.check_tensor("m", tensor).unwrap().is_some(), "{}", tensor.name);
        }
    }
}

#[test]
fn gguf_values_of_every_type_arrive() {
    let nested = array_bytes(ARRAY, 2, &[array_bytes(U32, 1, &[7, 0, 0, 0]), array_bytes(STR, 0, &[])].concat());
    let bytes = Gguf::new()
        .pair("u8", 0, [200])
        .pair("i8", 1, [0xff])
        .pair("u16", 2, 60_000_u16.to_le_bytes())
        .pair("i16", 3, (-300_i16).to_le_bytes())
        .pair("u32", U32, u32::MAX.to_le_bytes())
        .pair("i32", 5, i32::MIN.to_le_bytes())
        .pair("f32", F32, 0.5_f32.to_le_bytes())
        .pair("bool", 7, [1])
        .pair("str", STR, str_bytes("é\0\n"))
        .pair("u64", 10, u64::MAX.to_le_bytes())
        .pair("i64", 11, i64::MIN.to_le_bytes())
        .pair("f64", 12, 0.25_f64.to_le_bytes())
        .pair("nested", ARRAY, nested)
        .pair("i64s", ARRAY, array_bytes(11, 2, &[(-5_i64).to_le_bytes(), (1_i64 << 40).to_le_bytes()].concat()))
        .pair("u16s", ARRAY, array_bytes(2, 2, &[1, 0, 0xff, 0xff]))
        .bytes();
    let metadata = parsed(&bytes).metadata;
    let get = |key: &str| metadata.get(key).unwrap().clone();
    assert_eq!(get("u8"), Value::Uint(200));
    assert_eq!(get("i8"), Value::Int(-1));
    assert_eq!(get("u16"), Value::Uint(60_000));
    assert_eq!(get("i16"), Value::Int(-300));
    assert_eq!(get("u32"), Value::Uint(u64::from(u32::MAX)));
    assert_eq!(get("i32"), Value::Int(i64::from(i32::MIN)));
    assert_eq!(get("f32"), Value::F32(0.5));
    assert_eq!(get("bool"), Value::Bool(true));
    assert_eq!(get("str"), Value::Str("é\0\n".to_owned()));
    assert_eq!(get("u64"), Value::Uint(u64::MAX));
    assert_eq!(get("i64"), Value::Int(i64::MIN));
    assert_eq!(get("f64"), Value::F64(0.25));
    assert_eq!(get("nested"), Value::Array(Array::Nested(vec![Array::I64(vec![7]), Array::Str(vec![])])));
    assert_eq!(*metadata.i32_array("u16s").unwrap().unwrap(), [1, 65_535]);

    // A getter says what it wanted and what it found.
    assert_eq!(metadata.u32("absent").unwrap(), None);
    assert_eq!(metadata.u32("u8").unwrap(), Some(200));
    assert_eq!(metadata.f32("f64").unwrap(), Some(0.25));
    for (error, words) in [
        (metadata.u32("i8").unwrap_err(), ["\"i8\"", "-1"]),
        (metadata.u32("u64").unwrap_err(), ["\"u64\"", "18446744073709551615"]),
        (metadata.u64("str").unwrap_err(), ["\"str\"", "a string"]),
        (metadata.str("nested").unwrap_err(), ["\"nested\"", "an array of arrays"]),
        (metadata.bool("u8").unwrap_err(), ["\"u8\"", "200"]),
        (metadata.i32_array("i64s").unwrap_err(), ["\"i64s\"", "32-bit"]),
    ] {
        assert_eq!(error.code(), "corrupt");
        let message = error.to_string();
        assert!(message.starts_with("m: ") && words.iter().all(|word| message.contains(word)), "{message}");
    }
}

#[test]
fn gguf_honours_the_alignment_that_it_names() {
    let gguf = Gguf { alignment: 128, ..Gguf::new() }
        .pair("general.alignment", U32, 128_u32.to_le_bytes())
        .tensor("a", Dtype::F32, &[3])
        .tensor("b", Dtype::F32, &[5]);
    let header = parsed(&gguf.bytes());
    let begin = gguf.header().len().next_multiple_of(128) as u64;
    assert_eq!(header.tensors.iter().map(|tensor| tensor.offset).collect::<Vec<_>>(), [begin, begin + 128]);
}

#[test]
fn safetensors_parse_and_are_sorted_by_place() {
    let bytes = tiny_safetensors();
    let header = parsed(&bytes);
    assert_eq!(header.header_bytes, 8 + TINY_SAFETENSORS.len() as u64);
    assert_eq!(header.data_end, bytes.len() as u64);
    assert!(header.metadata.is_empty());
    let found: Vec<_> =
        header.tensors.iter().map(|t| (t.name.as_str(), t.dtype, t.offset - header.header_bytes, t.bytes)).collect();
    assert_eq!(found, [("a", Dtype::F32, 0, 8), ("b", Dtype::BF16, 8, 24), ("c", Dtype::F16, 32, 2)]);
    assert_eq!(header.tensors[1].shape, [3, 4]);
    assert_eq!((header.tensors[2].rows(), header.tensors[2].cols()), (1, 1), "a scalar");
}

#[test]
fn the_index_names_the_shards() {
    let text = r#"{"metadata":{"total_size":9},"weight_map":{"b":"m-2.safetensors","a":"m-1.safetensors","c":"m-2.safetensors"}}"#;
    let index = Index::parse("i", text).unwrap();
    assert_eq!(index.shards, ["m-1.safetensors", "m-2.safetensors"]);
    assert_eq!(index.weight_map["c"], "m-2.safetensors");
    for (weight_map, word) in [
        (r#"{"a":"../m.safetensors"}"#, "same folder"),
        (r#"{"a":"/m.safetensors"}"#, "same folder"),
        (r#"{"a":"x\\m.safetensors"}"#, "same folder"),
        (r#"{"a":"https://x/m.safetensors"}"#, "same folder"),
        (r#"{"a":"m.safetensors?x=.safetensors"}"#, "same folder"),
        (r#"{"a":"m.bin"}"#, "same folder"),
        (r#"{"a":"x.safetensors","a":"y.safetensors"}"#, "twice"),
        ("{}", "empty"),
        (r#"{"a":7}"#, "index"),
        ("[]", "index"),
    ] {
        let error = Index::parse("i", &format!("{{\"weight_map\":{weight_map}}}")).expect_err(weight_map);
        assert_eq!(error.code(), "corrupt");
        assert!(error.to_string().contains(word), "{error} lacks {word:?}");
    }
    assert!(Index::parse("i", "{}").is_err());
    assert!(Index::parse("i", "").is_err());
}

// ------------------------------------------------------------------------- truncation and streaming

/// Cuts a good file at every byte.
fn cut_everywhere(bytes: &[u8]) {
    let size = bytes.len() as u64;
    let whole = parsed(bytes);
    let header_bytes = usize::try_from(whole.header_bytes).unwrap();
    for cut in 0..=bytes.len() {
        let part = &bytes[..cut];
        // A stream whose length nobody told: what is asked for is more than there is, and exists.
        match parse_header("m", part, None).unwrap() {
            Progress::Done(header) => assert_eq!(header, whole, "cut at {cut}"),
            Progress::NeedMore(n) => {
                assert!(n > cut as u64 && n <= header_bytes as u64, "cut at {cut} of a header of {header_bytes}: {n}");
            }
        }
        // A stream of known length.
        match parse_header("m", part, Some(size)).unwrap() {
            Progress::Done(header) => assert_eq!(header, whole, "cut at {cut}"),
            Progress::NeedMore(n) => assert!(n > cut as u64 && n <= size, "cut at {cut} of {size}: asked for {n}"),
        }
        // A file that ends there.
        if cut < bytes.len() {
            let error = parse_header("m", part, Some(cut as u64)).expect_err("a truncated file was accepted");
            assert_eq!(error.code(), "corrupt", "{error}");
            let word = if cut < 10 { "m " } else { "truncated" };
            assert!(error.to_string().contains(word), "cut at {cut}: {error}");
        }
    }
}

#[test]
fn gguf_cut_at_every_byte() {
    cut_everywhere(&tiny_gguf().bytes());
}

#[test]
fn safetensors_cut_at_every_byte() {
    cut_everywhere(&tiny_safetensors());
}

#[test]
fn a_stream_needs_few_attempts() {
    const TOKENS: u64 = 20_000;
    let tokens: Vec<u8> = (0..TOKENS).flat_map(|id| str_bytes(&format!("token {id}"))).collect();
    let mut gguf = Gguf::new().pair("tokens", ARRAY, array_bytes(STR, TOKENS, &tokens));
    for layer in 0..300 {
        gguf = gguf.tensor(&format!("blk.{layer}.attn_norm.weight"), Dtype::F32, &[8]);
    }
    let bytes = gguf.bytes();
    for size in [None, Some(bytes.len() as u64)] {
        let (mut have, mut attempts) = (0, 0);
        while let Progress::NeedMore(n) = parse_header("m", &bytes[..have], size).unwrap() {
            have = usize::try_from(n).unwrap();
            attempts += 1;
        }
        // 300 kB: each attempt gets at least a third of what is missing, or doubles what is there.
        assert!(attempts <= 40, "{attempts} attempts with size {size:?}");
    }
}

#[test]
fn more_bytes_than_the_size_given_are_an_error() {
    let bytes = tiny_gguf().bytes();
    let error = parse_header("m", &bytes, Some(bytes.len() as u64 - 1)).unwrap_err();
    assert!(error.to_string().contains("its size was given as"), "{error}");
}

// ------------------------------------------------------------------------------------ hostile files

/// Counts what each thread has allocated, so that a test can see what an absurd length led to.
struct Counting;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it came; the counters are plain thread-local
// cells without a destructor, which neither allocate nor are gone before the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.get().saturating_add(layout.size());
        LIVE.set(live);
        PEAK.set(PEAK.get().max(live));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get().saturating_sub(layout.size()));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `action` held beyond those held before.
fn peak_bytes(action: impl FnOnce()) -> usize {
    let before = LIVE.get();
    PEAK.set(before);
    action();
    PEAK.get() - before
}

/// Whatever the parser and the configuration make of a file, it is no panic, and the memory is in
/// proportion to the bytes that are there.
fn survive(bytes: &[u8]) {
    for size in [None, Some(bytes.len() as u64), Some(1 << 40)] {
        let peak = peak_bytes(|| {
            let Ok(Progress::Done(header)) = parse_header("m", bytes, size) else { return };
            let Ok(config) = ModelConfig::from_gguf(&header) else { return };
            // 1024 layers at most, but not the time to list them for each of many files.
            let _ = config.shape(helium_webgpu::config::WeightId::Output);
            for tensor in &header.tensors {
                let _ = config.check_tensor("m", tensor);
            }
        });
        // An 8-byte string of length 0 becomes 24 bytes in a vector that may double, a tensor of 32
        // bytes some 120 in two such; 8 KiB is for messages.
        assert!(peak <= 16 * bytes.len() + 8192, "{peak} bytes allocated for a file of {}", bytes.len());
    }
}

/// Sebastiano Vigna's `SplitMix64`: enough to choose bits.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
    }
}

fn flip_bits(good: &[u8], header_bytes: usize, seed: u64) {
    let mut random = Random(seed);
    for _ in 0..20_000 {
        let mut bytes = good.to_vec();
        for _ in 0..=random.below(4) {
            bytes[random.below(header_bytes)] ^= 1 << random.below(8);
        }
        survive(&bytes);
    }
}

#[test]
fn gguf_with_flipped_bits() {
    let gguf = tiny_gguf();
    flip_bits(&gguf.bytes(), gguf.header().len(), 1);
}

#[test]
fn safetensors_with_flipped_bits() {
    flip_bits(&tiny_safetensors(), 8 + TINY_SAFETENSORS.len(), 2);
}

#[test]
fn every_word_of_a_gguf_header_made_absurd() {
    let gguf = tiny_gguf();
    let good = gguf.bytes();
    for absurd in [u64::MAX, 1 << 63, 1 << 60, 1 << 40, 1 << 32, u64::from(u32::MAX), 1 << 31, 1 << 20, 0] {
        for at in 0..gguf.header().len() - 8 {
            let mut bytes = good.clone();
            bytes[at..at + 8].copy_from_slice(&absurd.to_le_bytes());
            survive(&bytes);
        }
    }
}

#[test]
fn absurd_lengths_are_refused_at_once() {
    const ABSURD: u64 = 1 << 60;
    let absurd = ABSURD.to_le_bytes();
    let with_counts = |tensors: u64, pairs: u64| {
        [&b"GGUF"[..], &3_u32.to_le_bytes(), &tensors.to_le_bytes(), &pairs.to_le_bytes(), &[0; 64]].concat()
    };
    let files = [
        ("tensor count", with_counts(ABSURD, 0)),
        ("pair count", with_counts(0, ABSURD)),
        ("both counts", with_counts(u64::MAX, u64::MAX)),
        ("key length", [with_counts(0, 1)[..24].to_vec(), absurd.to_vec(), vec![0; 64]].concat()),
        ("string length", Gguf::new().pair("k", STR, [&absurd[..], &[0; 64]].concat()).bytes()),
        ("array length", Gguf::new().pair("k", ARRAY, array_bytes(0, ABSURD, &[0; 64])).bytes()),
        ("array of strings", Gguf::new().pair("k", ARRAY, array_bytes(STR, ABSURD, &[0; 64])).bytes()),
        ("array of arrays", Gguf::new().pair("k", ARRAY, array_bytes(ARRAY, ABSURD, &[0; 64])).bytes()),
        ("f64 array whose bytes wrap", Gguf::new().pair("k", ARRAY, array_bytes(12, 1 << 61, &[0; 64])).bytes()),
        ("dimension", Gguf::new().tensor_at(0, "t", 0, &[ABSURD]).bytes()),
        ("dimensions whose product wraps", Gguf::new().tensor_at(0, "t", 0, &[1 << 31, 1 << 31, 4]).bytes()),
        ("offset", Gguf::new().tensor_at(ABSURD, "t", 0, &[1]).bytes()),
        ("safetensors header", [&absurd[..], b"{}"].concat()),
    ];
    for (what, bytes) in files {
        let error = parse(&bytes).expect_err(what);
        assert_eq!(error.code(), "corrupt", "{what}: {error}");
        survive(&bytes);
        // Nobody told the length: absurd counts must not make the caller wait for bytes that never come.
        // Only data may lie beyond any file, as its end is checked when the size is known.
        match parse_header("m", &bytes, None) {
            Err(_) => {}
            Ok(Progress::Done(_)) => assert!(matches!(what, "dimension" | "offset"), "{what}"),
            Ok(Progress::NeedMore(n)) => panic!("{what}: asked for {n}"),
        }
    }
    // Offset and size that only together exceed 64 bits.
    let bytes = Gguf::new().tensor_at(u64::MAX - 31, "t", 0, &[1]).bytes();
    assert!(parse_header("m", &bytes, None).unwrap_err().to_string().contains("2^64"));
}

#[test]
fn a_gguf_that_contradicts_itself_is_refused() {
    let u32_pair = |gguf: Gguf, key: &str, value: u32| gguf.pair(key, U32, value.to_le_bytes());
    let corrupt = |gguf: Gguf, words: &[&str]| assert_refused(&gguf.bytes(), "corrupt", words);
    corrupt(u32_pair(u32_pair(Gguf::new(), "k", 1), "k", 1), &["\"k\"", "twice"]);
    corrupt(Gguf::new().tensor("t", Dtype::F32, &[8]).tensor("t", Dtype::F32, &[8]), &["\"t\"", "twice"]);
    corrupt(
        Gguf { data_bytes: 256, ..Gguf::new() }.tensor_at(0, "a", 0, &[16]).tensor_at(32, "b", 0, &[8]),
        &["\"b\"", "inside tensor \"a\""],
    );
    corrupt(Gguf { data_bytes: 256, ..Gguf::new() }.tensor_at(16, "a", 0, &[8]), &["\"a\"", "alignment 32"]);
    for alignment in [0, 3, 48] {
        corrupt(u32_pair(Gguf::new(), "general.alignment", alignment), &["general.alignment", "power of two"]);
    }
    corrupt(Gguf::new().pair("general.alignment", STR, str_bytes("32")), &["general.alignment", "a string"]);
    corrupt(Gguf::new().tensor_at(0, "t", 0, &[]), &["\"t\"", "0 dimensions"]);
    corrupt(Gguf::new().tensor_at(0, "t", 0, &[1; 5]), &["\"t\"", "5 dimensions"]);
    corrupt(Gguf::new().tensor_at(0, "t", 0, &[4, 0]), &["\"t\"", "dimension of 0"]);
    corrupt(Gguf::new().tensor_at(0, "t", 2, &[33, 2]), &["\"t\"", "Q4_0", "block of 32"]);
    corrupt(Gguf::new().tensor_at(0, "t", 12, &[7040, 2]), &["\"t\"", "Q4_K", "block of 256"]);
    corrupt(Gguf::new().pair("k", 7, [2]), &["\"k\"", "truth value"]);
    corrupt(Gguf::new().pair("k", ARRAY, array_bytes(7, 2, &[1, 9])), &["\"k\"", "truth value"]);
    corrupt(Gguf::new().pair("k", 13, [0; 8]), &["\"k\"", "value type 13"]);
    corrupt(Gguf::new().pair("k", ARRAY, array_bytes(13, 1, &[0; 8])), &["\"k\"", "value type 13"]);
    corrupt(Gguf::new().pair("k", STR, [1, 0, 0, 0, 0, 0, 0, 0, 0xff]), &["\"k\"", "UTF-8"]);
    corrupt(Gguf::new().pair(&"k".repeat(1 << 17), 0, [0]), &["a metadata key", "131072 bytes"]);
    let mut deep = array_bytes(0, 0, &[]);
    for _ in 0..100 {
        deep = array_bytes(ARRAY, 1, &deep);
    }
    corrupt(Gguf::new().pair("k", ARRAY, deep), &["\"k\"", "deeper"]);

    let unsupported = |gguf: Gguf, words: &[&str]| assert_refused(&gguf.bytes(), "unsupported-model", words);
    unsupported(Gguf::new().tensor_at(0, "t", 20, &[32]), &["\"t\"", "IQ4_NL", "Q4_K"]);
    unsupported(Gguf::new().tensor_at(0, "t", 4242, &[32]), &["\"t\"", "4242"]);
    unsupported(Gguf { version: 1, ..Gguf::new() }, &["version 1", "2 and 3"]);
    unsupported(Gguf { version: 4, ..Gguf::new() }, &["version 4", "2 and 3"]);
    unsupported(Gguf { version: 3 << 24, ..Gguf::new() }, &["big-endian"]);
}

#[test]
fn a_safetensors_file_that_contradicts_itself_is_refused() {
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#""t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let good = entry("F32", "[2]", "[0,8]");
    let after = r#""u":{"dtype":"F32","shape":[2],"data_offsets":"#;
    for (entries, data_bytes, words) in [
        (format!("{good},{good}"), 8, vec!["\"t\"", "twice"]),
        (format!("{good},{after}[4,12]}}"), 12, vec!["\"u\"", "inside tensor \"t\""]),
        (format!("{good},{after}[12,20]}}"), 20, vec!["\"u\"", "belong to no tensor"]),
        (good.clone(), 9, vec!["last tensor ends"]),
        (good.clone(), 7, vec!["\"t\"", "truncated"]),
        (entry("F32", "[2]", "[0,4]"), 4, vec!["\"t\"", "takes 8 bytes"]),
        (entry("F32", "[2]", "[8,0]"), 8, vec!["\"t\"", "takes 8 bytes"]),
        (entry("F32", "[2]", "[0]"), 8, vec!["line 1"]),
        (entry("F32", "[0]", "[0,0]"), 0, vec!["\"t\"", "dimension of 0"]),
        (entry("F32", "[-1]", "[0,4]"), 4, vec!["line 1"]),
        (entry("F32", "[1,1,1,1,1]", "[0,4]"), 4, vec!["\"t\"", "5 dimensions"]),
        (entry("F32", "[4611686018427387904,4]", "[0,0]"), 0, vec!["\"t\"", "2^64"]),
        (entry("F16", "[1]", "[18446744073709551613,18446744073709551615]"), 0, vec!["\"t\"", "2^64"]),
        (r#""t":7"#.to_owned(), 0, vec!["line 1"]),
        (r#""t":{"dtype":"F32"}"#.to_owned(), 0, vec!["shape"]),
        (good.replace("\"t\"", &format!("\"{}\"", "n".repeat(1 << 17))), 8, vec!["name", "131072 bytes"]),
        (format!(r#""t":"{}""#, "x".repeat(1 << 17)), 0, vec!["line 1"]),
        (format!(r#""__metadata__":{}0{}"#, "[".repeat(1 << 16), "]".repeat(1 << 16)), 0, vec![]),
    ] {
        let bytes = safetensors(&format!("{{{entries}}}"), data_bytes);
        if words.is_empty() {
            survive(&bytes); // no matter what is made of it
            continue;
        }
        assert_refused(&bytes, "corrupt", &words);
        assert!(refusal(&bytes, "corrupt").len() < 500, "a message that quotes the file at length");
    }
    let i64s = safetensors(&format!("{{{}}}", entry("I64", "[1]", "[0,8]")), 8);
    assert_refused(&i64s, "unsupported-model", &["\"t\"", "I64", "BF16"]);
}

#[test]
fn other_files_are_named_for_what_they_seem_to_be() {
    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 98\n";
    for (bytes, word) in [
        (&b""[..], "is empty"),
        (lfs.as_bytes(), "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"{\"error\":\"Repository not found\"}", "JSON"),
        (b"PK\x03\x04 and so forth", "PyTorch"),
        (b"\x80\x02}q\x00 and so forth", "pickle"),
        (b"\x1f\x8b\x08 and so forth", "gzip"),
        (b"FUGG\0\0\0\x03\0\0\0\0", "bytes swapped"),
        (b"tjgg\x03\0\0\0\0\0\0\0", "before GGUF"),
        (b"fmgg\x03\0\0\0\0\0\0\0", "before GGUF"),
        (b"Invalid username or password.", "text"),
        (b"\0\0\0\0\0\0\0\0\0\0\0\0", "bytes 00 00"),
        (b"GGU", "neither"),
        (b"a", "neither"),
    ] {
        assert_refused(bytes, "corrupt", &[word]);
    }
}
