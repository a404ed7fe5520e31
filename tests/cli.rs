//! The command-line tool as its users meet it: the built binary is run on the golden models in tests/data, on what
//! is left of them after damage, and on real weights; what it prints and how it exits is checked.

#![allow(clippy::unwrap_used, reason = "this is all test code: what it cannot do is a failure")]

use std::fmt::Debug;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest a run with a golden model may take. They take a second at most, but other things run too.
const TIMEOUT: Duration = Duration::from_mins(2);

/// The same for real weights, of which a software adapter runs a token in a second or two.
const REAL_TIMEOUT: Duration = Duration::from_mins(15);

/// Largest difference of a logit from that of transformers. Keys and values rounded to f16 move some by up to 0.019
/// by themselves (`kv_f16_diff` in each expected.json); products in f32 add less than 0.001.
const LOGIT_TOLERANCE: f32 = 0.02;

/// Largest difference of a mean NLL over some 80 tokens from the f32 reference: differences of logits as above have
/// either sign and cancel in the mean.
const NLL_TOLERANCE: f64 = 0.01;

/// The same where activations are rounded to eight bits, as llama.cpp rounds them.
const ROUNDED_NLL_TOLERANCE: f64 = 0.04;

// ------------------------------------------------------------------------------------- running it

/// What a run left behind.
struct Output {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// One run at a time: a software adapter takes all cores, and a run that waits for others looks hung.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_helium"));
    // Which kernels are fastest is measured, and a busy machine may find others each time.
    let computes = args.first().is_some_and(|name| ["generate", "score", "logits", "bench"].contains(name));
    let kernels: &[&str] = if computes && !args.contains(&"--kernels") { &["--kernels", "baseline"] } else { &[] };
    // As in a container, where Mesa would complain on stderr; what is remembered of this machine stays out of it.
    command
        .args(args)
        .args(kernels)
        .env_remove("XDG_RUNTIME_DIR")
        .env("HELIUM_CACHE", env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    run_within(TIMEOUT, args)
}

fn run_within(timeout: Duration, args: &[&str]) -> Output {
    let _turn = turn();
    let mut child = command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Pipes are read while it runs: it would wait for ever once they are full.
    let stdout = read_aside(child.stdout.take().unwrap());
    let stderr = read_aside(child.stderr.take().unwrap());
    let code = wait(&mut child, timeout, args);
    Output { code, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn read_aside(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).expect("what it prints is UTF-8")
    })
}

fn wait(child: &mut Child, timeout: Duration, args: &[&str]) -> Option<i32> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if begin.elapsed() > timeout {
            child.kill().unwrap();
            panic!("{args:?} ran longer than {timeout:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs what must succeed; returns its stdout.
fn succeed(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.code, Some(0), "{args:?} failed: {}", output.stderr);
    output.stdout
}

/// Runs what must succeed without a word on stderr; returns the one line of JSON on stdout.
fn json(args: &[&str]) -> Value {
    json_within(TIMEOUT, args)
}

fn json_within(timeout: Duration, args: &[&str]) -> Value {
    let output = run_within(timeout, args);
    assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{args:?}");
    assert_eq!(output.stdout.lines().count(), 1, "{args:?} printed {:?}", output.stdout);
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{args:?} printed no JSON: {error}"))
}

/// Runs what must fail with `code`, nothing on stdout and one line on stderr that holds every one of `words`.
fn fail(code: i32, args: &[&str], words: &[&str]) {
    let output = run(args);
    assert_eq!(output.code, Some(code), "{args:?}: exit code; stderr: {}", output.stderr);
    assert_eq!(output.stdout, "", "{args:?}: stdout");
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{args:?}: lines on stderr: {lines:?}");
    assert!(lines[0].starts_with("error: ") && output.stderr.ends_with('\n'), "{args:?}: {lines:?}");
    for word in words {
        assert!(lines[0].contains(word), "{args:?}: {word:?} is missing in {:?}", lines[0]);
    }
}

// -------------------------------------------------------------------------------- models and files

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A golden model: the GGUF file or the folder.
fn golden(name: &str) -> String {
    let folder = data("goldens").join(name);
    let path = if name.starts_with("gguf") { folder.join("model.gguf") } else { folder };
    path.to_str().unwrap().to_owned()
}

fn expected(name: &str) -> Value {
    let path = data(name).join("expected.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// A new folder for a test's files, removed when it ends.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.0.join(name), bytes).unwrap();
        self.path(name)
    }

    /// A copy of the files of a folder.
    fn copy(&self, name: &str, from: &str) -> PathBuf {
        let to = self.0.join(name);
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        to
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

fn comma_separated(ids: &Value) -> String {
    list(ids).iter().map(Value::to_string).collect::<Vec<_>>().join(",")
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[track_caller]
fn assert_near(found: f64, expected: f64, tolerance: f64, what: impl Debug) {
    assert!((found - expected).abs() <= tolerance, "{what:?}: {found} is not within {tolerance} of {expected}");
}

/// The bits of the logits of some tokens.
fn logits_of(folder: &Folder, model: &str, ids: &str, options: &[&str]) -> Vec<u32> {
    let out = folder.path("logits.npy");
    succeed(&[&["logits", model, "--ids", ids, "--out", &out], options].concat());
    read_npy(&out).2.into_iter().map(f32::to_bits).collect()
}

// ------------------------------------------------------------------------------------------- help

#[test]
fn help_and_version_are_there() {
    let help = succeed(&["--help"]);
    for command in ["generate", "score", "logits", "tokenize", "inspect", "quantize", "soup", "synth", "bench"] {
        assert!(help.contains(command), "{command} is missing in {help}");
        let what = if command == "synth" { "--preset" } else { "MODEL" };
        assert!(succeed(&[command, "--help"]).contains(what), "{command} --help");
    }
    assert!(succeed(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
    let output = run(&[]);
    assert_eq!(output.code, Some(2), "without a command");
    assert!(output.stderr.contains("generate"), "without a command: {}", output.stderr);
}

// ----------------------------------------------------------------------------------------- logits

/// Reads a .npy file of format 1.0 by its own rules; returns shape and values.
fn read_npy(path: &str) -> (usize, usize, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00", "magic and version");
    let header_end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!(header_end % 64, 0, "the data is aligned");
    let header = std::str::from_utf8(&bytes[10..header_end]).unwrap();
    assert!(header.ends_with('\n'), "{header:?}");
    let shape = header.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let (rows, cols) = shape.split_once(", ").unwrap();
    let start = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
    assert_eq!(header.trim_end(), start);
    let values = bytes[header_end..].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    (rows.parse().unwrap(), cols.parse().unwrap(), values)
}

fn check_logits(name: &str, options: &[&str]) {
    let folder = Folder::new(&format!("logits-{name}"));
    let (model, out) = (golden(name), folder.path("logits.npy"));
    let expected = expected(&format!("goldens/{name}"));
    let ids = comma_separated(&expected["ids"]);
    let stdout = succeed(&[&["logits", &model, "--ids", &ids, "--out", &out], options].concat());
    assert_eq!(stdout, "", "{name}: stdout");
    let (rows, cols, found) = read_npy(&out);
    let shape = (list(&expected["ids"]).len(), expected["vocab_size"].as_u64().unwrap() as usize);
    assert_eq!((rows, cols), shape, "{name}: shape");
    let reference = std::fs::read(data("goldens").join(name).join("logits.bin")).unwrap();
    let reference: Vec<f32> = reference.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(found.len(), reference.len(), "{name}: values");
    for (i, (found, reference)) in found.iter().zip(&reference).enumerate() {
        let (pos, id) = (i / cols, i % cols);
        assert!(
            (found - reference).abs() <= LOGIT_TOLERANCE, // false for NaN, too
            "{name}: the logit of {id} at {pos} is {found} instead of {reference}"
        );
    }
    let left = std::fs::read_dir(&folder.0).unwrap().count();
    assert_eq!(left, 1, "{name}: files left beside the result");
}

#[test]
fn logits_of_a_gguf_file() {
    check_logits("gguf_F16", &["--context", "80"]);
}

#[test]
fn logits_of_a_folder() {
    check_logits("llama_bf16", &["--limits", "default", "--features", "none"]);
}

#[test]
fn logits_of_a_folder_with_shards() {
    check_logits("helium_f32_gqa", &["--limits", "adapter", "--features", "auto"]);
}

/// More tokens than a step takes; the MLP has a width of its own, and rows on the device that are longer.
#[test]
fn an_activation_in_place_of_logits() {
    let folder = Folder::new("tap");
    let (model, out) = (golden("heads5"), folder.path("mlp.npy"));
    let ids = vec!["5"; 40].join(",");
    succeed(&["logits", &model, "--ids", &ids, "--tap", "layers.1.mlp", "--out", &out]);
    let (rows, cols, values) = read_npy(&out);
    let inspected: serde_json::Value = serde_json::from_str(&succeed(&["inspect", &model, "--json"])).unwrap();
    let width = inspected["config"]["intermediate_size"].as_u64().unwrap() as usize;
    assert_eq!((rows, cols), (40, width));
    assert!(values.iter().all(|value| value.is_finite()) && values.iter().any(|value| *value != 0.0));
}

#[test]
fn a_failed_logits_run_leaves_no_file() {
    let folder = Folder::new("logits-failed");
    let (model, out) = (golden("gguf_Q8_0"), folder.path("logits.npy"));
    fail(1, &["logits", &model, "--ids", "1", "--tap", "mlp", "--out", &out], &["mlp", "layers.N.attention"]);
    fail(1, &["logits", &model, "--ids", "1,999999", "--out", &out], &["999999", "vocabulary"]);
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0, "files left");
    let out = folder.path("missing/logits.npy");
    fail(1, &["logits", &model, "--ids", "1,2", "--out", &out], &[&out, "cannot be written"]);
    fail(1, &["logits", &model, "--ids", "1,2", "--out", &folder.path("")], &["is a folder"]);
    let copy = folder.write("copy.gguf", &std::fs::read(&model).unwrap());
    fail(1, &["logits", &copy, "--ids", "1", "--out", &copy], &["copy.gguf", "name another file"]);
}

// -------------------------------------------------------------------------- quantize, soup, synth

/// A file that was quantised beforehand is the same model as one that is quantised while it loads.
#[test]
fn quantize_writes_what_loading_would_make() {
    let folder = Folder::new("quantize");
    for (name, kind) in [("llama_bf16", "q8_0"), ("helium_bf16", "q4_k_m"), ("gguf_F16", "q4_0")] {
        let (model, out) = (golden(name), folder.path(&format!("{name}.gguf")));
        let report = json_after_notes(&["quantize", &model, "--type", kind, "--out", &out, "--json"]);
        assert_eq!(keys(&report), ["bits_per_weight", "bytes", "out", "parameters", "seconds", "type"]);
        assert_eq!((&report["out"], &report["type"]), (&out.clone().into(), &kind.into()));
        assert_eq!(report["bytes"], std::fs::metadata(&out).unwrap().len());
        let ids = "1,200,0,77,77,12,258,3";
        let found = logits_of(&folder, &out, ids, &[]);
        assert!(found == logits_of(&folder, &model, ids, &["--quantize", kind]), "{name}, {kind}: other logits");
        assert!(found != logits_of(&folder, &model, ids, &[]), "{name}, {kind}: nothing was quantised");
    }
    // The vocabulary came along.
    let (before, after) = (golden("gguf_F16"), folder.path("gguf_F16.gguf"));
    let ids = |model: &str| json(&["tokenize", model, "--text", "The ferry", "--json"])["ids"].clone();
    assert_eq!(ids(&before), ids(&after));
}

/// As [`json`], where a note on stderr is in order.
fn json_after_notes(args: &[&str]) -> Value {
    let output = run(args);
    assert_eq!(output.code, Some(0), "{args:?}: {}", output.stderr);
    assert!(output.stderr.lines().all(|line| line.starts_with("note: ")), "{args:?}: {}", output.stderr);
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{args:?} printed no JSON: {error}"))
}

#[test]
fn quantize_soup_and_synth_refuse_what_they_cannot_do() {
    let folder = Folder::new("quantize-refused");
    let (model, other, out) = (golden("gguf_F16"), golden("gguf_BF16"), folder.path("out.gguf"));
    fail(2, &["quantize", &model, "--type", "q9", "--out", &out], &["q9", "q4_k_m"]);
    fail(2, &["quantize", &model, "--out", &out], &["--type"]);
    fail(2, &["quantize", &model, "--type", "q8_0"], &["--out"]);
    fail(1, &["quantize", &folder.path("none"), "--type", "q8_0", "--out", &out], &["none", "cannot be read"]);
    let copy = folder.write("copy.gguf", &std::fs::read(&model).unwrap());
    fail(1, &["quantize", &copy, "--type", "q8_0", "--out", &copy], &["copy.gguf", "name another file"]);
    fail(1, &["soup", &model, &other, "--type", "f16", "--out", &out], &["cannot be averaged", "gguf_BF16"]);
    fail(2, &["soup", &model, "--type", "f16", "--out", &out], &["MODEL"]);
    fail(2, &["soup", &model, &other, "--weights", "1", "--type", "f16", "--out", &out], &["--weights"]);
    fail(2, &["soup", &model, &model, "--weights", "1,-1", "--type", "f16", "--out", &out], &["-1"]);
    fail(2, &["soup", &model, &model, "--weights", "0,0", "--type", "f16", "--out", &out], &["all 0"]);
    let too_many = ["synth", "--preset", "helium-1-2b", "--layers", "29", "--type", "q8_0", "--out", &out];
    fail(2, &too_many, &["--layers", "28"]);
    fail(2, &["synth", "--preset", "helium-9", "--type", "q8_0", "--out", &out], &["helium-9", "helium-1-2b"]);
    let nowhere = folder.path("none/out.gguf");
    fail(1, &["quantize", &model, "--type", "q8_0", "--out", &nowhere], &["none", "cannot be written"]);
    fail(1, &["quantize", &model, "--type", "q8_0", "--out", &folder.path("")], &["is a folder"]);
    assert!(!Path::new(&out).exists());

    succeed(&["soup", &model, &model, "--weights", "1,3", "--type", "f16", "--out", &out]);
    let ids = "1,200,0,77";
    assert!(logits_of(&folder, &out, ids, &[]) == logits_of(&folder, &model, ids, &[]), "of one model, itself");
}

/// What is written replaces a file when it is whole, and nothing else that may be there.
#[test]
#[cfg(unix)]
fn what_is_written_goes_where_it_should() {
    let folder = Folder::new("new-file");
    let (model, input) = (golden("gguf_F16"), folder.path("out.gguf.part"));
    std::fs::copy(&model, &input).unwrap();
    let before = std::fs::read(&input).unwrap();
    // A link stays one, also where it leads nowhere yet.
    let (link, out) = (folder.path("link.gguf"), folder.path("out.gguf"));
    std::os::unix::fs::symlink("out.gguf", &link).unwrap();
    for kind in ["q8_0", "q4_0"] {
        succeed(&["quantize", &input, "--type", kind, "--out", &link]);
        let (name, tensors) = (kind.to_uppercase(), json(&["inspect", &out, "--json"])["tensors"].clone());
        assert!(list(&tensors).iter().any(|tensor| tensor["dtype"] == name.as_str()), "{kind}: {tensors}");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink(), "the link was replaced");
    }
    assert!(std::fs::read(&input).unwrap() == before, "a file that was there was written to");
    // So does a device.
    let device = folder.path("device");
    std::os::unix::fs::symlink("/dev/null", &device).unwrap();
    succeed(&["quantize", &input, "--type", "q8_0", "--out", &device]);
    assert_eq!(std::fs::metadata("/dev/null").unwrap().len(), 0);
    // Nothing is left of a run that is interrupted.
    let big = folder.path("big.gguf");
    let args = ["synth", "--preset", "helium-1-2b", "--type", "q8_0", "--out", &big];
    let n_files = || std::fs::read_dir(&folder.0).unwrap().count();
    let n_before = n_files();
    let mut child = command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    while n_files() == n_before {
        assert!(begin.elapsed() < TIMEOUT, "nothing was written");
        std::thread::sleep(Duration::from_millis(5));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(wait(&mut child, TIMEOUT, &args), Some(130));
    assert_eq!(n_files(), n_before, "files left");
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let folder = Folder::new("other-tokenizer");
    let piece = |id: usize| (format!("<{id}>"), id);
    for n_tokens in [9, 9999] {
        let vocab: std::collections::BTreeMap<_, _> = (0..n_tokens).map(piece).collect();
        let model = serde_json::json!({"type": "BPE", "vocab": vocab, "merges": []});
        let text = serde_json::json!({"version": "1.0", "model": model, "added_tokens": []}).to_string();
        let path = folder.write("tokenizer.json", text.as_bytes());
        let args = ["score", &golden("gguf_F16"), "--tokenizer", &path, "--text", "a"];
        fail(1, &args, &["tokenizer.json", &n_tokens.to_string(), "another model's"]);
    }
}

/// The real shapes, but one layer.
#[test]
fn synth_writes_a_model_that_runs() {
    let folder = Folder::new("synth");
    let out = folder.path("synth.gguf");
    succeed(&["synth", "--preset", "helium-1-2b", "--layers", "1", "--type", "q8_0", "--out", &out]);
    let report = json(&["inspect", &out, "--json"]);
    assert_eq!(report["config"]["n_layers"], 1);
    assert_eq!((&report["config"]["hidden_size"], &report["config"]["vocab_size"]), (&2048.into(), &64_000.into()));
    assert_eq!(report["tokenizer"]["kind"], "unigram");
    let report = json(&["generate", &out, "--prompt", "Hello", "--max-tokens", "2", "--context", "64", "--json"]);
    assert_eq!(list(&report["ids"]).len(), 2);
}

// --------------------------------------------------------------------------------------- generate

#[test]
fn generate_streams_text_and_tells_statistics() {
    let model = golden("gguf_F16");
    let args = ["generate", &model, "--prompt", "The ferry", "--max-tokens", "12", "--temperature", "0"];
    let output = run(&args);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    for word in ["prompt: ", "generated: ", "tok/s", "loaded in", "finish reason: ", "seed: "] {
        assert!(output.stderr.contains(word), "{word:?} is missing in {}", output.stderr);
    }
    let report = json(&[&args[..], &["--json"]].concat());
    assert_eq!(output.stdout, format!("{}\n", report["text"].as_str().unwrap()));
    assert_eq!(keys(&report), ["finish_reason", "ids", "prompt_ids", "seed", "text", "timings"]);
    assert_eq!(keys(&report["timings"]), ["decode_ms", "load_ms", "prompt_ms", "ttft_ms"]);
    for (name, value) in report["timings"].as_object().unwrap() {
        assert!(value.as_f64().unwrap() > 0.0, "{name}: {value}");
    }
    assert_eq!(report["finish_reason"], "length");
    assert_eq!(list(&report["ids"]).len(), 12);
    assert_eq!(report["prompt_ids"], json(&["tokenize", &model, "--text", "The ferry", "--json"])["ids"]);
}

/// Greedy ids are those with the highest of the golden logits, where these leave no doubt.
#[test]
fn generate_is_greedy_at_temperature_zero() {
    let golden_name = "gguf_F16";
    let expected = expected(&format!("goldens/{golden_name}"));
    let vocab_size = expected["vocab_size"].as_u64().unwrap() as usize;
    let logits = std::fs::read(data("goldens").join(golden_name).join("logits.bin")).unwrap();
    let last = &logits[logits.len() - 4 * vocab_size..];
    let mut ranked: Vec<(usize, f32)> =
        last.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    assert!(ranked[0].1 - ranked[1].1 > 2.0 * LOGIT_TOLERANCE, "the golden's last logits are too near to tell");
    let ids = comma_separated(&expected["ids"]);
    let report =
        json(&["generate", &golden(golden_name), "--ids", &ids, "--max-tokens", "1", "--temperature", "0", "--json"]);
    assert_eq!(report["ids"], serde_json::json!([ranked[0].0]));
}

#[test]
fn equal_seeds_give_equal_text() {
    let model = golden("gguf_F16");
    let sample = |seed: &str| {
        json(&[
            "generate",
            &model,
            "--prompt",
            "sea",
            "--max-tokens",
            "16",
            "--temperature",
            "2",
            "--top-p",
            "1",
            "--seed",
            seed,
            "--json",
        ])
    };
    let (first, again, other) = (sample("7"), sample("7"), sample("8"));
    assert_eq!((&first["ids"], &first["text"]), (&again["ids"], &again["text"]));
    assert_eq!(first["seed"], 7);
    // 16 draws at a temperature of 2 agree by chance about never.
    assert_ne!(first["ids"], other["ids"]);
}

#[test]
fn generate_ends_before_a_stop_text() {
    let model = golden("gguf_F16");
    let args = ["generate", &model, "--prompt", "sea", "--max-tokens", "12", "--temperature", "0", "--json"];
    let whole = json(&args)["text"].as_str().unwrap().to_owned();
    let (at, stop) =
        whole.char_indices().map(|(at, c)| (at, c.to_string())).nth(4).expect("12 tokens have 5 characters");
    // The text ends where the character comes first, perhaps before.
    let at = whole.find(&stop).unwrap_or(at);
    let report = json(&[&args[..], &["--stop", "never there", "--stop", &stop]].concat());
    assert_eq!(report["finish_reason"], "stop");
    assert_eq!(report["text"], whole[..at]);
}

#[test]
fn generate_fills_the_context_and_no_more() {
    let model = golden("gguf_Q8_0");
    let args = ["generate", &model, "--ids", "5,6,7", "--context", "8", "--temperature", "0", "--json"];
    let report = json(&args);
    assert_eq!(report["finish_reason"], "context", "{report}");
    // Three of the prompt and five that were fed back; the sixth came from the last of these.
    assert_eq!(list(&report["ids"]).len(), 6, "{report}");
    assert_eq!(report["text"], "", "there is no tokenizer");
}

#[test]
fn without_a_tokenizer_ids_are_printed() {
    let model = golden("llama_bf16");
    let args = ["generate", &model, "--ids", "5, 6,7", "--max-tokens", "3", "--temperature", "0"];
    let stdout = succeed(&args);
    let report = json(&[&args[..], &["--json"]].concat());
    assert_eq!(report["prompt_ids"], serde_json::json!([5, 6, 7]));
    assert_eq!(stdout, format!("{}\n", comma_separated(&report["ids"]).replace(',', " ")));
}

#[test]
fn sampling_options_are_taken() {
    let model = golden("gguf_F16");
    let stdout = succeed(&[
        "generate",
        &model,
        "--prompt",
        "- sea",
        "--max-tokens",
        "2",
        "--temperature",
        "0.5",
        "--top-k",
        "5",
        "--top-p",
        "0.9",
        "--min-p",
        "0.05",
        "--repetition-penalty",
        "1.1",
        "--presence-penalty",
        "-0.5",
        "--frequency-penalty",
        "0.5",
        "--seed",
        "1",
        "--stop",
        "-x",
    ]);
    assert!(stdout.ends_with('\n'), "{stdout:?}");
    // Of one token there is no choice, whatever the temperature.
    let only = |seed| {
        json(&["generate", &model, "--prompt", "sea", "--max-tokens", "2", "--top-k", "1", "--seed", seed, "--json"])
    };
    assert_eq!(only("1")["ids"], only("2")["ids"]);
}

// ------------------------------------------------------------------------------------------ score

#[test]
fn score_agrees_with_the_golden_logits() {
    let (name, n) = ("gguf_F16", 20);
    let model = golden(name);
    let expected = expected(&format!("goldens/{name}"));
    let ids: Vec<usize> = list(&expected["ids"]).iter().take(n).map(|id| id.as_u64().unwrap() as usize).collect();
    let text = ids.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let report = json(&["score", &model, "--ids", &text, "--top", "3", "--json"]);
    assert_eq!(keys(&report), ["ids", "logprobs", "mean_nll", "perplexity", "top"]);
    assert_eq!(report["ids"], serde_json::json!(ids));

    let vocab_size = expected["vocab_size"].as_u64().unwrap() as usize;
    let reference = std::fs::read(data("goldens").join(name).join("logits.bin")).unwrap();
    let reference: Vec<f64> =
        reference.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect();
    let rows: Vec<&[f64]> = reference.chunks_exact(vocab_size).collect();
    let (logprobs, top) = (list(&report["logprobs"]), list(&report["top"]));
    assert_eq!((logprobs.len(), top.len()), (n, n));
    assert_eq!((&logprobs[0], &top[0]), (&Value::Null, &Value::Null));
    let mut sum = 0.0;
    for pos in 1..n {
        let row = rows[pos - 1];
        let normaliser = row.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        let logprob = row[ids[pos]] - normaliser;
        sum -= logprob;
        // A logit and the normaliser may each be off by the tolerance.
        let tolerance = 2.0 * f64::from(LOGIT_TOLERANCE);
        assert_near(logprobs[pos].as_f64().unwrap(), logprob, tolerance, ("logprob", pos));
        let alternatives = list(&top[pos]);
        assert_eq!(alternatives.len(), 3, "alternatives at {pos}");
        let best = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert_near(alternatives[0]["logprob"].as_f64().unwrap(), best - normaliser, tolerance, ("best", pos));
        for alternative in alternatives {
            assert_eq!(keys(alternative), ["id", "logprob", "piece"]);
            let id = alternative["id"].as_u64().unwrap() as usize;
            assert_near(alternative["logprob"].as_f64().unwrap(), row[id] - normaliser, tolerance, ("top", pos, id));
        }
    }
    let mean_nll = report["mean_nll"].as_f64().unwrap();
    assert_near(mean_nll, sum / (n - 1) as f64, f64::from(LOGIT_TOLERANCE), "mean NLL");
    assert_near(report["perplexity"].as_f64().unwrap(), mean_nll.exp(), 1e-6 * mean_nll.exp(), "perplexity");
}

#[test]
fn score_of_text_begins_with_bos_and_prints_a_table() {
    let model = golden("gguf_F16");
    let expected = expected("goldens/gguf_F16");
    let text = expected["text"].as_str().unwrap();
    let report = json(&["score", &model, "--text", text, "--json"]);
    assert_eq!(keys(&report), ["ids", "logprobs", "mean_nll", "perplexity"]);
    assert_eq!(report["ids"], expected["text_ids"]);
    let table = succeed(&["score", &model, "--text", "sea", "--top", "1"]);
    assert!(table.contains("mean NLL") && table.contains("perplexity"), "{table}");
    // A single token has no log-probability.
    let report = json(&["score", &model, "--ids", "5", "--json"]);
    assert_eq!(report["logprobs"], serde_json::json!([null]));
    // Pieces need a tokenizer, and are left out without.
    let report = json(&["score", &golden("llama_bf16"), "--ids", "5,6", "--top", "1", "--json"]);
    assert_eq!(keys(&report["top"][1][0]), ["id", "logprob"]);
}

// --------------------------------------------------------------------------- tokenize and inspect

#[test]
fn tokenize_reads_every_place_that_a_vocabulary_may_be_in() {
    let expected = expected("goldens/gguf_F16");
    let (model, text) = (golden("gguf_F16"), expected["text"].as_str().unwrap());
    let report = json(&["tokenize", &model, "--text", text, "--json"]);
    assert_eq!(keys(&report), ["ids", "pieces"]);
    assert_eq!(report["ids"], expected["text_ids"]);
    assert_eq!(list(&report["pieces"]).len(), list(&report["ids"]).len());
    let lines = succeed(&["tokenize", &model, "--text", "The sea"]);
    let report = json(&["tokenize", &model, "--text", "The sea", "--json"]);
    assert_eq!(lines.lines().count(), list(&report["ids"]).len(), "{lines}");

    // The same vocabulary as tokenizer.json and in a GGUF file.
    let (json_file, gguf) = (data("tokenizers/helium.json"), data("tokenizers/helium.gguf"));
    let [json_file, gguf] = [json_file, gguf].map(|path| path.to_str().unwrap().to_owned());
    let from_json = json(&["tokenize", &json_file, "--text", text, "--json"]);
    assert_eq!(json(&["tokenize", &gguf, "--text", text, "--json"])["ids"], from_json["ids"]);
    assert_ne!(from_json["ids"], expected["text_ids"]);
    assert_eq!(json(&["tokenize", &model, "--tokenizer", &json_file, "--text", text, "--json"]), from_json);

    // tokenizer.json beside the weights wins over the GGUF file's own; in a folder the one GGUF file is the model.
    let folder = Folder::new("tokenize");
    let copy = folder.path("model.gguf");
    std::fs::copy(&model, &copy).unwrap();
    assert_eq!(json(&["tokenize", &folder.path(""), "--text", text, "--json"])["ids"], expected["text_ids"]);
    std::fs::copy(&json_file, folder.path("tokenizer.json")).unwrap();
    for place in [&copy, &folder.path(""), &folder.path("tokenizer.json")] {
        assert_eq!(json(&["tokenize", place, "--text", text, "--json"]), from_json, "{place}");
    }
}

#[test]
fn inspect_tells_what_a_model_is() {
    let model = golden("gguf_F16");
    let report = json(&["inspect", &model, "--json"]);
    let expected_keys = ["architecture", "config", "file_bytes", "format", "parameters", "tensors", "tokenizer"];
    assert_eq!(keys(&report), expected_keys);
    assert_eq!((&report["architecture"], &report["format"]), (&"llama".into(), &"gguf".into()));
    assert_eq!(report["file_bytes"], std::fs::metadata(&model).unwrap().len());
    assert_eq!(report["tokenizer"], serde_json::json!({"kind": "byte-level-bpe", "vocab": 291}));
    assert_eq!(report["config"]["vocab_size"], 291);
    let mut n_weights = 0;
    for tensor in list(&report["tensors"]) {
        assert_eq!(keys(tensor), ["bytes", "dtype", "name", "shape"]);
        n_weights += list(&tensor["shape"]).iter().map(|dim| dim.as_u64().unwrap()).product::<u64>();
    }
    assert_eq!(report["parameters"], n_weights);

    let model = golden("helium_f32_gqa");
    let report = json(&["inspect", &model, "--json"]);
    assert_eq!((&report["architecture"], &report["format"]), (&"helium".into(), &"safetensors".into()));
    assert_eq!(report["tokenizer"], Value::Null);
    // All shards: 9 tensors a layer, and 3 besides.
    assert_eq!(list(&report["tensors"]).len(), 3 * 9 + 3);
    let copies = Folder::new("inspect");
    let copy = copies.write("model.gguf", &std::fs::read(golden("gguf_F16")).unwrap());
    copies.write("tokenizer.json", b"{}");
    assert_eq!(json_after_notes(&["inspect", &copy, "--json"])["tokenizer"], Value::Null, "a broken tokenizer");
    let names = succeed(&["inspect", &model]);
    for word in ["model.layers.2.mlp.down_proj.weight", "safetensors", "parameters", "F32"] {
        assert!(names.contains(word), "{word} is missing in {names}");
    }
}

#[test]
fn inspect_tells_what_adapters_offer() {
    let model = golden("gguf_Q4_0");
    // Which kernels are fastest is remembered, where the device has timestamps.
    succeed(&["generate", &model, "--ids", "1,2", "--max-tokens", "1", "--kernels", "auto"]);
    let adapters = json(&["inspect", "--adapter", "--json"]);
    for adapter in list(&adapters) {
        assert!(!adapter["name"].as_str().unwrap().is_empty(), "{adapter}");
        assert!(adapter["offer"]["subgroup"].as_u64().unwrap() >= 1, "{adapter}");
        assert!(adapter["max_binding_bytes"].as_u64().unwrap() >= 128 << 20, "{adapter}");
    }
    let has_kernels = |adapter: &Value| !adapter["kernels"].as_object().unwrap().is_empty();
    let is_timed = |adapter: &Value| adapter["offer"]["timestamps"] == true;
    assert!(list(&adapters).iter().any(has_kernels) || !list(&adapters).iter().any(is_timed), "{adapters}");
    assert!(succeed(&["inspect", "--adapter"]).contains("largest binding"));
    fail(1, &["inspect", "--adapter", "no such adapter"], &["no such adapter", "found"]);
    fail(2, &["inspect", "--adapter", "x", "--tokenizer", &model], &["--adapter", "--tokenizer"]);
}

// ------------------------------------------------------------------------------------------ bench

#[test]
fn bench_measures() {
    let model = golden("gguf_Q8_0");
    let args = ["bench", &model, "--prompt-tokens", "9", "--decode-tokens", "3", "--runs", "2"];
    let report = json(&[&args[..], &["--json"]].concat());
    let mut expected_keys = [
        "adapter",
        "prefill_tps",
        "decode_tps",
        "ttft_ms",
        "dispatches_per_token",
        "encode_us_per_token",
        "weight_bytes",
        "kv_bytes",
        "gpu_bytes",
        "read_gbps",
        "peak_gflops",
        "decode_gbps",
        "roofline",
        "spread",
    ];
    expected_keys.sort_unstable();
    assert_eq!(keys(&report), expected_keys);
    for key in ["prefill_tps", "decode_tps", "ttft_ms", "encode_us_per_token"] {
        let spread = &report["spread"][key];
        let [least, median, most] = ["least", "median", "most"].map(|of| spread[of].as_f64().unwrap());
        assert!(least <= median && median <= most, "{key}: {spread}");
        assert_eq!(report[key], spread["median"], "{key}");
    }
    let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key} is {}", report[key]));
    for key in expected_keys.into_iter().filter(|key| !["adapter", "spread"].contains(key)) {
        assert!(number(key) > 0.0, "{key} is {}", report[key]);
    }
    assert!(!report["adapter"].as_str().unwrap().is_empty());
    assert!(number("gpu_bytes") >= number("weight_bytes") + number("kv_bytes"), "{report}");
    assert_near(number("roofline"), number("decode_gbps") / number("read_gbps"), 1e-9, "roofline");
    // The first token takes the prompt, and choosing one.
    assert!(number("ttft_ms") >= 9.0 / number("prefill_tps") * 1e3 * 0.5, "{report}");
    // More cannot be read than there is.
    let most = (number("weight_bytes") + number("kv_bytes")) * number("decode_tps") / 1e9;
    assert!(number("decode_gbps") <= most, "{report}");
    let table = succeed(&[&args[..], &["--trace"]].concat());
    for word in ["prefill", "decode", "tok/s", "GB/s", "–", "a decode step", "a prompt", "gate_up", "sample"] {
        assert!(table.contains(word), "{word} is missing in {table}");
    }
    fail(1, &["bench", &model, "--prompt-tokens", "90", "--decode-tokens", "9", "--context", "96"], &["90", "9", "96"]);
}

// ---------------------------------------------------------------------------------- what is wrong

#[test]
fn wrong_command_lines_exit_with_2() {
    let model = golden("gguf_F16");
    let generate = ["generate", &model, "--ids", "1"];
    let with = |options: &[&'static str]| [&generate[..], options].concat();
    fail(2, &with(&["--temperature", "-3"]), &["temperature", "-3", "at least 0"]);
    fail(2, &with(&["--temperature", "NaN"]), &["temperature", "NaN"]);
    fail(2, &with(&["--temperature", "hot"]), &["temperature", "hot"]);
    fail(2, &with(&["--top-p", "1.5"]), &["top-p", "1.5"]);
    fail(2, &with(&["--min-p", "-0.1"]), &["min-p", "-0.1"]);
    fail(2, &with(&["--repetition-penalty", "0"]), &["repetition penalty", "0"]);
    fail(2, &with(&["--top-k", "-1"]), &["top-k", "-1"]);
    fail(2, &with(&["--max-tokens", "many"]), &["max-tokens", "many"]);
    fail(2, &with(&["--seed", "-1"]), &["seed", "-1"]);
    fail(2, &with(&["--stop", ""]), &["stop"]);
    fail(2, &with(&["--context", "0"]), &["context", "0", "at least 1"]);
    fail(2, &with(&["--context", "-5"]), &["context", "-5", "at least 1"]);
    fail(2, &with(&["--limits", "huge"]), &["limits", "huge", "default", "adapter"]);
    fail(2, &with(&["--features", "all"]), &["features", "all", "none", "auto"]);
    fail(2, &with(&["--prompt", "x"]), &["--prompt"]);
    fail(2, &with(&["--no-such-option"]), &["--no-such-option"]);
    for ids in ["", "1,,2", "1,x", "1,-2", "4294967296", "1.5"] {
        fail(2, &["generate", &model, "--ids", ids], &["--ids", "token id", "1,2,3"]);
    }
    fail(2, &["generate", &model], &["--prompt", "--ids"]);
    fail(2, &["generate", "--ids", "1"], &["MODEL"]);
    fail(2, &["logits", &model, "--ids", "1"], &["--out"]);
    fail(2, &["bench", &model, "--runs", "0"], &["runs", "0"]);
    fail(2, &["divine", &model], &["divine"]);
}

#[test]
fn what_the_model_cannot_do_is_said() {
    let model = golden("gguf_Q8_0"); // without a vocabulary
    fail(1, &["generate", &model, "--ids", "1,291000"], &["291000", "vocabulary", "ids 0 to"]);
    fail(1, &["score", &model, "--ids", "1,4294967295"], &["4294967295", "vocabulary"]);
    fail(1, &["generate", &model, "--ids", "1,2,3,4,5", "--context", "4"], &["5 tokens", "context of 4"]);
    fail(1, &["score", &model, "--ids", "1,2,3,4,5", "--context", "4"], &["5 tokens", "context of 4"]);
    fail(1, &["generate", &model, "--ids", "1", "--context", "1000000"], &["1000000", "takes 1 to"]);
    fail(1, &["generate", &model, "--ids", "1", "--adapter", "abacus"], &["abacus", "found: "]);
    fail(1, &["generate", &model, "--prompt", "x"], &[&model, "no tokenizer", "--tokenizer", "--ids"]);
    fail(1, &["generate", &model, "--ids", "1", "--stop", "x"], &[&model, "no tokenizer"]);
    fail(1, &["tokenize", &model, "--text", "x"], &[&model, "no tokenizer"]);
    fail(1, &["score", &golden("llama_bf16"), "--text", "x"], &["no tokenizer"]);
}

#[test]
fn missing_files_are_named() {
    let folder = Folder::new("missing");
    let absent = folder.path("absent.gguf");
    for args in [&["inspect", &absent][..], &["generate", &absent, "--ids", "1"], &["tokenize", &absent, "--text", "x"]]
    {
        fail(1, args, &[&absent, "No such file"]);
    }
    let model = golden("gguf_F16");
    fail(1, &["generate", &model, "--prompt", "x", "--tokenizer", &absent], &[&absent, "No such file"]);

    let empty = folder.path("empty");
    std::fs::create_dir(&empty).unwrap();
    fail(1, &["inspect", &empty], &[&empty, "no model", "config.json", ".gguf", "found 0"]);
    let lone = folder.copy("lone", &golden("llama_bf16"));
    std::fs::remove_file(lone.join("model.safetensors")).unwrap();
    fail(1, &["inspect", lone.to_str().unwrap()], &["lone", "no weights", "*.safetensors"]);
    let bare = folder.copy("bare", &golden("llama_bf16"));
    std::fs::remove_file(bare.join("config.json")).unwrap();
    fail(1, &["inspect", bare.to_str().unwrap()], &["bare", "config.json is missing"]);
    let sharded = folder.copy("sharded", &golden("helium_f32_gqa"));
    std::fs::remove_file(sharded.join("model-00002-of-00003.safetensors")).unwrap();
    let words = ["model-00002-of-00003.safetensors is missing", "1 of 3", "model.safetensors.index.json"];
    fail(1, &["generate", sharded.to_str().unwrap(), "--ids", "1"], &words);
    // Without the index nobody knows of the shard, but its weights are missing still.
    std::fs::remove_file(sharded.join("model.safetensors.index.json")).unwrap();
    fail(1, &["generate", sharded.to_str().unwrap(), "--ids", "1"], &["weights are missing"]);
    let two = folder.path("two");
    std::fs::create_dir(&two).unwrap();
    for name in ["a.gguf", "b.gguf"] {
        std::fs::copy(&model, Path::new(&two).join(name)).unwrap();
    }
    fail(1, &["inspect", &two], &["two", "2 .gguf files", "a.gguf"]);
    fail(1, &["inspect", "/dev/null"], &["/dev/null", "neither a file nor a folder"]);
}

/// Runs that read the weights, and runs that read the header alone.
fn fail_on_damage(path: &str, words: &[&str]) {
    fail(1, &["generate", path, "--ids", "1", "--max-tokens", "1"], &[&[path], words].concat());
    fail(1, &["inspect", path], &[&[path], words].concat());
}

#[test]
fn truncated_files_are_refused() {
    let folder = Folder::new("truncated");
    let whole = std::fs::read(golden("gguf_F16")).unwrap();
    fail_on_damage(&folder.write("empty.gguf", b""), &["is empty"]);
    for n_bytes in [3, 8, 20, 100, 5_000, whole.len() / 2, whole.len() - 1] {
        fail_on_damage(&folder.write(&format!("{n_bytes}.gguf"), &whole[..n_bytes]), &[]);
    }
    let checkpoint = folder.copy("checkpoint", &golden("llama_bf16"));
    let weights = checkpoint.join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    for n_bytes in [0, 5, 8, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&weights, &whole[..n_bytes]).unwrap();
        let path = checkpoint.to_str().unwrap();
        fail(1, &["generate", path, "--ids", "1", "--max-tokens", "1"], &[weights.to_str().unwrap()]);
    }
}

#[test]
fn damaged_headers_are_refused() {
    let folder = Folder::new("damaged");
    let whole = std::fs::read(golden("gguf_F16")).unwrap();
    let write = |name: &str, at: usize, bytes: &[u8]| {
        let mut copy = whole.clone();
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        folder.write(name, &copy)
    };
    let huge = (1_u64 << 60).to_le_bytes();
    // Magic, version, numbers of tensors and of keys, and the length of the first key.
    fail_on_damage(&write("magic.gguf", 0, b"GGUG"), &["neither GGUF nor safetensors"]);
    fail_on_damage(&write("version.gguf", 4, &[0xff]), &["version"]);
    fail_on_damage(&write("tensors.gguf", 8, &huge), &[]);
    fail_on_damage(&write("keys.gguf", 16, &huge), &[]);
    fail_on_damage(&write("key.gguf", 24, &huge), &[]);
    // The number of pieces in the vocabulary: a list's type and length follow its name and the type of a list.
    let key = b"tokenizer.ggml.tokens";
    let at = whole.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4 + 4;
    fail_on_damage(&write("pieces.gguf", at, &huge), &[]);
    // A tensor of another type than any, another size than the configuration's, and beyond the end of the file: what
    // follows a tensor's name is the number of dimensions, these, type and offset.
    let name = b"output_norm.weight";
    let at = whole.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    assert_eq!(whole[at..at + 4], 1_u32.to_le_bytes(), "a norm has one dimension");
    fail_on_damage(&write("type.gguf", at + 12, &99_u32.to_le_bytes()), &["output_norm.weight", "99"]);
    fail_on_damage(&write("dim.gguf", at + 4, &huge), &["output_norm.weight"]);
    fail_on_damage(&write("offset.gguf", at + 16, &huge), &["output_norm.weight"]);

    let checkpoint = folder.copy("checkpoint", &golden("llama_bf16"));
    let weights = checkpoint.join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    let path = checkpoint.to_str().unwrap();
    for (at, bytes) in [(0, &huge[..]), (8, b"["), (20, b"\x00")] {
        let mut copy = whole.clone();
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        std::fs::write(&weights, copy).unwrap();
        fail(1, &["generate", path, "--ids", "1"], &[weights.to_str().unwrap()]);
    }
    std::fs::write(&weights, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n").unwrap();
    fail(1, &["generate", path, "--ids", "1"], &["model.safetensors", "Git LFS"]);
}

/// A flipped bit may leave the header valid; then the model loads. Whatever happens, it is no crash.
#[test]
fn flipped_bits_never_crash() {
    let folder = Folder::new("flipped");
    let whole = std::fs::read(golden("gguf_F16")).unwrap();
    // Spread over what comes before the data, with an odd step so that all kinds of fields are hit.
    for (i, at) in (0..6_000).step_by(241).enumerate() {
        let mut copy = whole.clone();
        copy[at] ^= 1 << (i % 8);
        let path = folder.write("flipped.gguf", &copy);
        let args = ["inspect", &path];
        let output = run(&args);
        match output.code {
            Some(0) => assert_eq!(output.stderr, "", "byte {at}"),
            Some(1) => {
                assert_eq!(output.stderr.lines().count(), 1, "byte {at}: {}", output.stderr);
                assert!(
                    output.stderr.starts_with("error: ") && output.stderr.contains(&path),
                    "byte {at}: {}",
                    output.stderr
                );
            }
            code => panic!("byte {at}: exit code {code:?}: {}", output.stderr),
        }
    }
}

#[test]
fn contradictions_are_refused() {
    let folder = Folder::new("contradictions");
    let checkpoint = folder.copy("checkpoint", &golden("llama_bf16"));
    let (config, path) = (checkpoint.join("config.json"), checkpoint.to_str().unwrap());
    let text = std::fs::read_to_string(&config).unwrap();
    let fields: Value = serde_json::from_str(&text).unwrap();
    let change = |key: &str, value: Value| {
        let mut fields = fields.clone();
        fields[key] = value;
        std::fs::write(&config, fields.to_string()).unwrap();
    };
    let generate = ["generate", path, "--ids", "1", "--max-tokens", "1"];
    let hidden_size = fields["hidden_size"].as_u64().unwrap();
    change("intermediate_size", 7.into());
    fail(1, &generate, &["model.safetensors", "mlp", "shape", "[64, 7]"]);
    change("num_hidden_layers", 1000.into());
    fail(1, &generate, &["weights are missing"]);
    change("num_hidden_layers", 1.into());
    fail(1, &generate, &["model.safetensors", "layer 1", "has 1 layers"]);
    change("vocab_size", (1_u64 << 60).into());
    fail(1, &generate, &["config.json", "vocab_size"]);
    change("hidden_size", (hidden_size + 1).into());
    fail(1, &generate, &["shape"]);
    change("rope_scaling", serde_json::json!({"type": "linear", "factor": 2.0}));
    fail(1, &generate, &["config.json", "rope_scaling"]);
    std::fs::write(&config, "{").unwrap();
    fail(1, &generate, &["config.json"]);
    std::fs::write(&config, b"\xff\xfe").unwrap();
    fail(1, &generate, &["config.json", "UTF-8"]);
    std::fs::write(&config, text).unwrap();

    let tokenizer = folder.write("checkpoint/tokenizer.json", b"{\"model\": ");
    fail(1, &["generate", path, "--prompt", "x"], &[&tokenizer]);
    fail(1, &["tokenize", path, "--text", "x"], &[&tokenizer]);
    // Ids alone do without it.
    assert_eq!(list(&json(&[&generate[..], &["--json"]].concat())["ids"]).len(), 1);
    fail(1, &["tokenize", path, "--text", "x", "--tokenizer", path], &[path]);

    let index = folder.copy("sharded", &golden("helium_f32_gqa"));
    folder.write("sharded/model.safetensors.index.json", b"{\"weight_map\": {\"a\": \"../../secret.safetensors\"}}");
    fail(1, &["inspect", index.to_str().unwrap()], &["index.json", "secret", "plain name"]);
}

#[test]
fn a_closed_stdout_ends_it_quietly() {
    let _turn = turn();
    let model = golden("gguf_F16");
    for args in [
        &["inspect", &model][..],
        &["tokenize", &model, "--text", "x"],
        &["generate", &model, "--prompt", "x", "--max-tokens", "40"],
        &["--help"],
    ] {
        let mut child = command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let stderr = read_aside(child.stderr.take().unwrap());
        assert_eq!(wait(&mut child, TIMEOUT, args), Some(0), "{args:?}");
        assert_eq!(stderr.join().unwrap(), "", "{args:?}");
    }
}

// ----------------------------------------------------------------------------------- real weights

/// `SmolLM2-135M`, whose path the variable gives: tokens and mean NLL of eight texts, as the tokenizer and the f32
/// weights of its reference give them (`tests/data/make_smollm2.py`).
#[test]
fn real_weights_agree_with_the_reference() {
    let model = std::env::var("HELIUM_SMOLLM2").expect(
        "set HELIUM_SMOLLM2 to the path of SmolLM2-135M-Instruct.Q4_1.gguf; ./build.sh test fetches it and does so",
    );
    let expected = expected("smollm2");
    let texts = list(&expected["texts"]);
    assert_eq!(texts.len() as u64, expected["n_texts"].as_u64().unwrap());
    for text in texts {
        let name = &text["name"];
        let tokens = json(&["tokenize", &model, "--text", text["text"].as_str().unwrap(), "--json"]);
        assert_eq!(tokens["ids"], text["ids"], "{name}: ids");
        let ids = comma_separated(&text["ids"]);
        let near = |kernels: &str, tolerance: f64| {
            let args = ["score", &model, "--ids", &ids, "--context", "128", "--kernels", kernels, "--json"];
            let found = json_within(REAL_TIMEOUT, &args)["mean_nll"].as_f64().unwrap();
            assert_near(found, text["mean_nll"].as_f64().unwrap(), tolerance, format!("{name}, {kernels} kernels"));
        };
        near("exact", NLL_TOLERANCE);
        // Rounding is the same for every text.
        if name == "greek" {
            near("rounded", ROUNDED_NLL_TOLERANCE);
        }
    }
}
