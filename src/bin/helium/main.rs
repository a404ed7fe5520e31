//! The command-line tool: a command line enters; results leave on stdout, and failures as one line on stderr
//! with exit code 1, or 2 for a wrong command line. Each subcommand is a file; what it does is the library's.

mod args;
mod bench;
mod generate;
mod inspect;
mod logits;
mod output;
mod quantize;
mod score;
mod soup;
mod synth;
mod tokenize;
mod tuning;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use helium_webgpu::new_file::discard_unfinished;

use output::Failure;

/// What shells report of a command that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Kyutai's Helium-1 language models on the GPU, through WebGPU.
///
/// MODEL is a GGUF file, or a folder with config.json, *.safetensors (sharded or not) and tokenizer.json.
#[derive(Parser)]
#[command(name = "helium", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Generate(generate::Args),
    Score(score::Args),
    Logits(logits::Args),
    Tokenize(tokenize::Args),
    Inspect(inspect::Args),
    Quantize(quantize::Args),
    Soup(soup::Args),
    Synth(synth::Args),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    quieten_mesa();
    // A panic is a bug, here or in a driver's binding; the user still gets one line and an exit code.
    std::panic::set_hook(Box::new(|info| {
        output::error_line(&format!("internal error, please report it: {info}"));
        discard_unfinished();
        std::process::exit(1);
    }));
    // Where no handler can be set, an interrupted run leaves its unfinished file behind: no reason not to begin.
    let _unset = ctrlc::set_handler(|| {
        discard_unfinished();
        std::process::exit(INTERRUPTED);
    });
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return wrong_command_line(&error),
    };
    let result = match command {
        Command::Generate(args) => args.run(),
        Command::Score(args) => args.run(),
        Command::Logits(args) => args.run(),
        Command::Tokenize(args) => args.run(),
        Command::Inspect(args) => args.run(),
        Command::Quantize(args) => args.run(),
        Command::Soup(args) => args.run(),
        Command::Synth(args) => args.run(),
        Command::Bench(args) => args.run(),
    };
    match result {
        // Who closed our output has seen enough.
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Error(error)) => {
            output::error_line(&error.to_string());
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            output::error_line(&message);
            ExitCode::from(2)
        }
    }
}

/// clap's message, as one line where it is not a page of help.
fn wrong_command_line(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        // Nobody is left to tell when even this cannot be written.
        let _unwritten = error.print();
        return ExitCode::from(u8::from(error.use_stderr()) * 2);
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = ["\n\nUsage:", "\n\nFor more"].iter().filter_map(|rest| text.find(rest)).min().unwrap_or(text.len());
    output::error_line(&format!("{}; see --help", text[..end].split_whitespace().collect::<Vec<_>>().join(" ")));
    ExitCode::from(2)
}

/// Mesa's layer that sorts devices complains on stderr where the session has no runtime folder, as in
/// containers; it is not needed.
fn quieten_mesa() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: no other thread has been started yet, so that none reads the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
