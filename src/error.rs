//! The one error type. Every message says which file, tensor, option or limit is meant, what was
//! expected, what was found, and what the user can do about it.

/// What went wrong, by kind; the text is the whole message for the user.
///
/// [`Error::code`] gives the kind as the stable string that the JavaScript API reports.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A file could not be opened or read.
    #[error("{0}")]
    Io(String),
    /// A file's bytes contradict its format or each other.
    #[error("{0}")]
    Corrupt(String),
    /// A well-formed model that this engine does not run.
    #[error("{0}")]
    UnsupportedModel(String),
    /// An option or argument outside its range.
    #[error("{0}")]
    InvalidArgument(String),
    /// The platform offers no WebGPU (or no native graphics API) at all.
    #[error("{0}")]
    NoWebGpu(String),
    /// No GPU adapter matches what was asked for.
    #[error("{0}")]
    NoAdapter(String),
    /// The GPU has not enough memory, or a buffer exceeds the device's limits.
    #[error("{0}")]
    OutOfMemory(String),
    /// The GPU device was lost (driver reset, sleep, tab eviction).
    #[error("{0}")]
    DeviceLost(String),
    /// More tokens than the context holds.
    #[error("{0}")]
    ContextFull(String),
    /// The caller cancelled.
    #[error("{0}")]
    Aborted(String),
    /// A broken assumption inside the engine: worth a bug report.
    #[error("{0}")]
    Internal(String),
}

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The error's kind as a stable, kebab-case word: the `code` of JavaScript's `HeliumError`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io(_) => "io",
            Self::Corrupt(_) => "corrupt",
            Self::UnsupportedModel(_) => "unsupported-model",
            Self::InvalidArgument(_) => "invalid-argument",
            Self::NoWebGpu(_) => "no-webgpu",
            Self::NoAdapter(_) => "no-adapter",
            Self::OutOfMemory(_) => "out-of-memory",
            Self::DeviceLost(_) => "device-lost",
            Self::ContextFull(_) => "context-full",
            Self::Aborted(_) => "aborted",
            Self::Internal(_) => "internal",
        }
    }
}
