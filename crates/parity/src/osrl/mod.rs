//! Fixtures of the OSRL baselines. Their networks read [observation, action], ours [action, observation].

mod bcql;
mod bearl;
mod coptidice;
mod cpq;
mod names;

pub use bcql::bind as bind_bcql;
pub use bearl::bind as bind_bearl;
pub use coptidice::bind as bind_coptidice;
pub use cpq::bind as bind_cpq;
