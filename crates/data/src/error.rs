//! The one error type of this crate.

use std::fmt;

/// What an [`Error`] is about; the code shown to callers in other languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The content is wrong: a missing key, a shape, a value, damaged bytes.
    Data,
    /// The operating system refused: no such file, a directory, no permission, a read that failed.
    Io,
    /// The caller asked for an end.
    Cancelled,
}

/// A refusal of some input.
///
/// `message` is complete by itself: it names the file, the key where there is one, the offending value and what
/// to do about it. It is what [`fmt::Display`] prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Kind of the failure.
    pub kind: ErrorKind,
    /// Path of the file, or the name given as [`crate::Columns::source`].
    pub file: String,
    /// Dataset (column) concerned, if a single one is.
    pub key: Option<String>,
    /// Whole sentence for a reader.
    pub message: String,
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Stable code: `"Data"`, `"Io"` or `"Cancelled"`.
    pub fn code(&self) -> &'static str {
        match self.kind {
            ErrorKind::Data => "Data",
            ErrorKind::Io => "Io",
            ErrorKind::Cancelled => "Cancelled",
        }
    }

    /// Wrong content: `problem` says what was found, `remedy` what to do.
    pub(crate) fn data(file: &str, key: Option<&str>, problem: &str, remedy: &str) -> Self {
        Self::new(ErrorKind::Data, file, key, problem, remedy)
    }

    /// A refusal by the operating system.
    pub(crate) fn io(file: &str, problem: &str, remedy: &str) -> Self {
        Self::new(ErrorKind::Io, file, None, problem, remedy)
    }

    /// The end that [`crate::Watch::cancel`] asked for.
    pub(crate) fn cancelled(file: &str) -> Self {
        Self::new(ErrorKind::Cancelled, file, None, "was cancelled", "nothing was written")
    }

    pub(crate) fn new(kind: ErrorKind, file: &str, key: Option<&str>, problem: &str, remedy: &str) -> Self {
        let message = match key {
            Some(key) => format!("{file}: {key}: {problem}; {remedy}"),
            None => format!("{file}: {problem}; {remedy}"),
        };
        Self { kind, file: file.to_owned(), key: key.map(str::to_owned), message }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
