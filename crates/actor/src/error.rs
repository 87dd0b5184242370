//! The one error type of this crate.

use std::fmt;

/// What an [`Error`] is about; the code shown to callers in other languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Wrong content: a foreign or damaged file, a value that is not finite.
    Data,
    /// A slice or tensor whose size does not fit.
    Shape,
    /// The operating system refused to read the file.
    Io,
}

/// A refusal of some input. `message` is complete by itself and is what [`fmt::Display`] prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Kind of the failure.
    pub kind: ErrorKind,
    /// Tensor, metadata key or argument concerned, if a single one is.
    pub field: Option<String>,
    /// Whole sentence for a reader: file (when there is one), field, offending value, remedy.
    pub message: String,
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Stable code: `"Data"`, `"Shape"` or `"Io"`.
    pub fn code(&self) -> &'static str {
        match self.kind {
            ErrorKind::Data => "Data",
            ErrorKind::Shape => "Shape",
            ErrorKind::Io => "Io",
        }
    }

    pub(crate) fn new(kind: ErrorKind, field: Option<&str>, text: &str) -> Self {
        let message = match field {
            Some(field) => format!("{field}: {text}"),
            None => text.to_owned(),
        };
        Self { kind, field: field.map(str::to_owned), message }
    }

    pub(crate) fn data(field: &str, text: &str) -> Self {
        Self::new(ErrorKind::Data, Some(field), text)
    }

    pub(crate) fn shape(field: &str, text: &str) -> Self {
        Self::new(ErrorKind::Shape, Some(field), text)
    }

    /// The same error of a part of the file whose tensors begin with `prefix`; metadata belong to the whole.
    pub(crate) fn in_part(mut self, prefix: &str) -> Self {
        if !self.message.starts_with("metadata ") {
            self.message = format!("{prefix}{}", self.message);
            self.field = self.field.map(|field| format!("{prefix}{field}"));
        }
        self
    }

    /// The same error with the file's name in front.
    pub(crate) fn in_file(mut self, name: &str) -> Self {
        self.message = format!("{name}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
