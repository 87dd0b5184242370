//! CDT.
pub mod config;
pub mod learner;
pub mod loss;
pub mod model;
pub mod sequences;
pub use config::CdtConfig;
pub use learner::Learner;
