//! Judging a policy without an environment: a dynamics ensemble with a validity test, an estimate with a self-test,
//! fitted Q evaluation, and the certificate.
//!
//! Reading order: [`rules`] (what refuses), [`judge`] (who finds out), then `ladder` (how far the models can be
//! believed), `estimate` and `tail` (what a policy costs), `self_test` (how wrong that is),
//! `dynamics` (the models) and `errors` (what they get wrong).

pub mod certificate;
mod clusters;
pub mod dynamics;
mod errors;
mod estimate;
mod facts;
mod foresight;
pub mod fqe;
mod frame;
mod goal;
pub mod held_out;
pub mod judge;
mod ladder;
mod notes;
mod past;
mod play;
pub mod rules;
mod self_test;
mod signal;
mod split;
mod stats;
mod tail;
mod unrolled;

pub use certificate::{certify, Certificate, CriticEstimate, CriticEstimates, Evidence, Verdict};
pub use dynamics::Dynamics;
pub use estimate::RolloutEstimate;
pub use facts::DataFacts;
pub use foresight::{Foresight, Outlook, Signal};
pub use fqe::{Fqe, FqeEstimate};
pub use frame::Moment;
pub use goal::Goal;
pub use held_out::HeldOut;
pub use judge::{Judge, Judgement, Shortage};
pub use ladder::{Rung, Validity};
pub use rules::{Refusal, Rule, Thresholds};
pub use self_test::{Behavior, SelfTest, Tried};
