//! The algorithms, and the registry: one line an algorithm.

pub mod bc;
pub mod bcq_lag;
pub mod bear_lag;
pub mod caps;
pub mod caps_sac;
pub mod ccac;
pub mod cdt;
pub mod coptidice;
pub mod cpq;
pub mod critics;
pub mod drcorl;
pub mod feasibility;
pub mod fisor;
pub mod frame;
pub mod frontier;
pub mod lagrange;
pub mod losses;
pub mod metrics;
pub mod trebi;

use drcorl_core::algorithm::{Entry, Registry};
use frame::Learner;

/// Every algorithm the package knows.
pub static REGISTRY: Registry = &[
    Entry::of::<drcorl::Drcorl>(),
    Entry::of::<bc::Bc>(),
    Entry::of::<bc::BcSafe>(),
    Entry::of::<Learner<bcq_lag::BcqLag>>(),
    Entry::of::<Learner<bear_lag::BearLag>>(),
    Entry::of::<Learner<cpq::Cpq>>(),
    Entry::of::<cdt::Cdt>(),
    Entry::of::<trebi::Trebi>(),
    Entry::of::<Learner<coptidice::Coptidice>>(),
    Entry::of::<fisor::Fisor>(),
    Entry::of::<Learner<caps::Caps>>(),
    Entry::of::<Learner<caps_sac::CapsSac>>(),
    Entry::of::<ccac::Ccac>(),
];

/// The registry and every parameter, see [`drcorl_core::describe`].
pub fn describe() -> serde_json::Value {
    drcorl_core::describe(REGISTRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flag names one parameter: an algorithm's may not be called as one of the run's.
    #[test]
    fn no_parameter_has_the_name_of_a_parameter_of_the_run() {
        let description = describe();
        let run = description["run"]["schema"]["properties"].as_object().unwrap();
        for entry in REGISTRY {
            let own = description["algorithms"][entry.name]["schema"]["properties"].as_object().unwrap();
            let shared: Vec<_> = own.keys().filter(|key| run.contains_key(*key)).collect();
            assert!(shared.is_empty(), "{}: {shared:?}", entry.name);
        }
    }
}
