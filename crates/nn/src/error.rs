//! What can go wrong below an algorithm: shapes, stored state, files, libtorch.

use std::path::{Path, PathBuf};

/// A failure of this crate. [`Error::code`] is stable and survives into JavaScript as `err.code`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment asks for a kernel that is unknown or not there.
    #[error("{0}")]
    Config(String),
    /// A tensor does not have the shape its role demands.
    #[error("{0}")]
    Shape(String),
    /// A checkpoint holds something that cannot be used.
    #[error("{0}")]
    Data(String),
    /// libtorch refused an operation, for example because a device is missing or memory ran out.
    #[error("{0}")]
    Torch(String),
    /// The operating system refused to read or write.
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

impl Error {
    /// The stable code of the variant.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Config(_) => "Config",
            Error::Shape(_) => "Shape",
            Error::Data(_) => "Data",
            Error::Torch(_) => "Torch",
            Error::Io { .. } => "Io",
        }
    }

    /// Wraps an I/O error with the file it happened on.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Error::Io { path: path.to_path_buf(), source }
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Error::Torch(error.to_string())
    }
}

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;
