//! Fixtures of DRCORL's parts: denoiser, critics, policy steps, gradient manipulation, PID multiplier.

mod critics;
mod formulas;
mod policy;
mod score;

pub use critics::{bind_iql, bind_td_cost};
pub use formulas::{bind_gradient_manipulation, bind_pid};
pub use policy::{bind_adaptation, bind_policy};
pub use score::{bind_behavior, bind_score_net};
