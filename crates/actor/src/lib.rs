//! Feed-forward policies on `f32` slices, without a tensor library.
//!
//! An [`Actor`] is read from the `policy.safetensors` file that training writes and maps observations to actions:
//!
//! ```text
//! action = low + (tanh(mlp((obs - mean) / std)) + 1) / 2 * (high - low), clamped to [low, high]
//! ```
//!
//! with ReLU between the layers of the mlp. It is immutable and `Send + Sync`; whatever a call writes to is in the
//! caller's [`Scratch`], so [`Actor::act`] allocates nothing.
//!
//! ```no_run
//! use std::path::Path;
//! use drcorl_actor::Actor;
//!
//! let actor = Actor::load(Path::new("policy.safetensors"))?;
//! let mut scratch = actor.scratch();
//! let observation = vec![0.0; actor.obs_dim()];
//! let mut action = vec![0.0; actor.act_dim()];
//! actor.act(&observation, &mut action, &mut scratch)?;
//! # Ok::<(), drcorl_actor::Error>(())
//! ```

mod actor;
mod error;
mod file;
mod kernel;
mod layer;

pub use actor::{Actor, LayerParts, Parts, Scratch};
pub use error::{Error, ErrorKind, Result};
pub use file::FORMAT;
