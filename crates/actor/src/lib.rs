//! Policies on `f32` slices, without a tensor library.
//!
//! An [`Actor`] is read from the `policy.safetensors` file that training writes; its metadata key `kind` says how
//! observations become actions in [-1, 1], which are then mapped to the box of the logged actions.
//! With `s = (obs - mean) / std`:
//!
//! - `mlp`: `tanh` or a clamp of `mlp(s)`, with ReLU between the layers. The kind of a file that names none.
//! - `gaussian`: the same network as the mean of a Gaussian, which is played unless the setting `sample` asks for
//!   draws. The draws repeat: see [`Draws`].
//! - `latent`: `b = tanh(decoder([z, s]))` for a drawn `z`, then `b + phi tanh(perturbation([b, s]))` clamped; of
//!   several such actions the one critics in the file like best. The draws repeat: see [`Draws`].
//! - `sequence`: a causal transformer over the last steps of the episode,
//!   conditioned on the return and the cost that are still to come.
//! - `diffusion`: noise, denoised level by level by a network that sees `s`; of several such actions the one critics in
//!   the file choose, by reward, by feasibility or by both. The draws repeat, as those of `latent`.
//! - `planner`: plans of the next steps, denoised from drawn noise and led by value nets towards reward within what is
//!   left of the cost limit; see [`planner`].
//! - `switching`: several heads `tanh(heads(trunk(s)))`; critics in the file choose among them by what is left of the
//!   limit on costs.
//! - `budgeted`: `tanh(actor([s, kappa]))`, kappa what is left of that limit or the cost value of it.
//! - `mixture`: several policies of kind `mlp` or `gaussian`, of which one, drawn by weight, plays a whole episode.
//!
//! An actor is immutable and `Send + Sync`. Whatever a call writes to is in a [`Player`]: working memory, so that
//! acting does not allocate, and what a policy remembers of each row's episode.
//!
//! ```no_run
//! use std::path::Path;
//! use drcorl_actor::{Actor, Turn};
//!
//! let actor = Actor::load(Path::new("policy.safetensors"))?;
//! let mut player = actor.play();
//! let observation = vec![0.0; actor.obs_dim()];
//! let mut action = vec![0.0; actor.act_dim()];
//! player.act(Turn::first(&observation), &mut action)?;
//! # Ok::<(), drcorl_actor::Error>(())
//! ```

mod actor;
mod budget;
mod budgeted;
mod diffusion;
mod draws;
mod error;
mod file;
mod gaussian;
mod latent;
mod mixture;
mod mlp;
mod network;
pub mod planner;
mod sequence;
mod switching;

pub use actor::{Actor, Player, Turn};
pub use draws::Draws;
pub use drcorl_kernels::cpu_features;
pub use error::{Error, ErrorKind, Result};
pub use file::{Array, PolicyFile, FORMAT, MOST_BYTES};
pub use switching::choose;
