//! Fixtures of the OSRL baselines. Their networks read [observation, action], ours [action, observation].

mod bcql;
mod names;

pub use bcql::bind as bind_bcql;
