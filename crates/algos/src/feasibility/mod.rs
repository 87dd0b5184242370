//! Whether violations can be avoided, state by state: reachability values as FISOR learns them (Zheng et al. 2024,
//! arXiv:2401.10700), and the margin they are made of.

pub mod critics;
pub mod losses;
pub mod margin;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a feasibility critic learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Feasibility {
    /// The largest violation still to come (Hamilton-Jacobi reachability); feasible where it is at most 0. The cost
    /// limit has no say.
    Reachability,
    /// The discounted cost still to come; feasible where it is at most the limit as a discounted sum,
    /// `limit (1 - gamma^L) / ((1 - gamma) L)`.
    DiscountedCost,
}
