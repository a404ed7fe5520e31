//! How results and failures reach the user: text and JSON to stdout, one line of error to stderr.

use std::io::{self, Write};

use helium_webgpu::Error;
use serde::Serialize;

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The engine's or the file system's error.
    Error(Error),
    /// An option outside its range, found after clap.
    Usage(String),
    /// Nobody reads stdout any more.
    Closed,
}

/// `std::result::Result` with [`Failure`].
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Writes text to stdout, now. `println!` would panic when stdout is closed.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => Error::Io(format!("stdout cannot be written: {error}")).into(),
    })
}

/// Writes lines to stdout.
pub(crate) fn print_lines(lines: &[String]) -> Result<()> {
    print(&(lines.join("\n") + "\n"))
}

/// Writes a value to stdout as a line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string(value).map_err(|error| Error::Internal(format!("no JSON: {error}")))?;
    print(&(json + "\n"))
}

/// Writes a line to stderr; where that is closed, nobody wants it.
pub(crate) fn note(text: &str) {
    let _unwritten = writeln!(io::stderr(), "{text}");
}

/// Writes `error: …` to stderr, in one line whatever file names and drivers' messages hold.
pub(crate) fn error_line(message: &str) {
    let line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    note(&format!("error: {}", line.trim_end()));
}
