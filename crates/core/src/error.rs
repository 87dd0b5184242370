//! One error type with a stable code for every failure that can reach a user.

/// Everything that can go wrong in the core. [`Error::code`] is stable and survives into JavaScript as `err.code`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A parameter is unknown, of the wrong type or outside its range.
    #[error("{0}")]
    Config(String),
    /// A tensor does not have the shape its role demands.
    #[error("{0}")]
    Shape(String),
    /// The dataset, a checkpoint or a policy file holds something that cannot be used.
    #[error("{0}")]
    Data(String),
    /// A network, its stored state or its file were refused, or libtorch refused an operation.
    #[error(transparent)]
    Network(#[from] drcorl_nn::Error),
    /// A dataset file or its columns were refused.
    #[error("{0}")]
    Input(#[from] drcorl_data::Error),
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The core or an algorithm breaks a promise to the rest of the house.
    #[error("{0}")]
    Internal(String),
    /// A loss or a parameter stopped being finite.
    #[error("{phase}: {what} became {value} at step {step}; the last checkpoint is untouched. Lower the learning rate or inspect the data.")]
    Diverged { phase: String, what: String, value: f64, step: u64 },
}

impl Error {
    /// The stable code of the variant.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Config(_) => "Config",
            Error::Shape(_) => "Shape",
            Error::Data(_) => "Data",
            Error::Network(error) => error.code(),
            Error::Input(error) => error.code(),
            Error::Cancelled => "Cancelled",
            Error::Internal(_) => "Internal",
            Error::Diverged { .. } => "Diverged",
        }
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Error::Network(error.into())
    }
}

/// The result type of the core.
pub type Result<T> = std::result::Result<T, Error>;
