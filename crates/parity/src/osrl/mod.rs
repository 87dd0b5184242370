//! Fixtures of the OSRL baselines and of what is built on them.
//! Their networks read [observation, action], ours [action, observation].

mod bcql;
mod bearl;
mod caps;
mod ccac;
mod coptidice;
mod cpq;
mod names;

pub use bcql::bind as bind_bcql;
pub use bearl::bind as bind_bearl;
pub use caps::bind as bind_caps;
pub use ccac::bind as bind_ccac;
pub use coptidice::bind as bind_coptidice;
pub use cpq::bind as bind_cpq;
