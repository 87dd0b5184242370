//! Networks on flat parameter arenas, with gradients written by hand.
//!
//! A network is a *layout* (slots in an arena) and takes the arena as an argument, so that a target network is the same
//! layout over another arena, Adam is one pass over one vector, an exponential moving average is one more, and a flat
//! gradient is there for gradient manipulation without any gathering.

pub mod arena;
pub mod attention;
pub mod buffers;
pub mod checkpoint;
pub mod dense;
pub mod digest;
pub mod dropout;
pub mod ensemble;
pub mod error;
pub mod gaussian;
pub mod head;
mod linear;
pub mod losses;
pub mod matmul;
pub mod ops;
pub mod optim;
pub mod precision;
pub mod probe;
pub mod profile;
pub mod rng;
mod scalar_head;
pub mod score_net;
mod slices;
pub mod squashed;
pub mod threads;
pub mod traced;
pub mod transformer;
pub mod unet;
pub mod vae;

pub use arena::{Arena, ArenaBuilder, Slot};
pub use dense::Dense;
pub use ensemble::{widths, Cache, Ensemble, Hidden};
pub use error::{Error, Result};
pub use gaussian::Gaussian;
pub use head::Head;
pub use score_net::{ScoreCache, ScoreNet, TimeEmbedding};
pub use squashed::SquashedActor;
pub use traced::Traced;
pub use transformer::{Transformer, TransformerShape};
pub use unet::{PlanNet, PlanValue, TemporalUnet};
pub use vae::Vae;
