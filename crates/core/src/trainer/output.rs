//! The policies of a run as files.

use super::{guarded, no_visit, Origin, Trainer};
use crate::error::{Error, Result};
use crate::offline::Verdict;
use crate::policy::FrozenPolicy;
use crate::results::PolicyRecord;
use drcorl_actor::PolicyFile;
use drcorl_nn::checkpoint::write_atomically;
use drcorl_nn::digest::sha256;
use std::path::Path;

impl Trainer {
    /// Writes the policy that meets the environment now. Errs with `Config` where no visit is due.
    pub fn write_visitor(&self, path: &Path) -> Result<()> {
        guarded(|| {
            let policy = self.visitor().ok_or_else(no_visit)?;
            self.write_policy(path, "live", policy.as_ref(), &|_| {}).map(drop)
        })
    }

    /// Writes `policy.safetensors` (the policy to use) and `policy.<name>.safetensors` for every other, and enters
    /// their hashes into the certificate. Once it is written a file does not change: it holds the verdict itself.
    pub fn write_policies(&mut self, folder: &Path, origin: &Origin) -> Result<Vec<PolicyRecord>> {
        guarded(|| {
            let mut written = Vec::new();
            for (index, named) in self.algorithm.policies()?.iter().enumerate() {
                let shipped = index == 0;
                let file =
                    if shipped { "policy.safetensors".into() } else { format!("policy.{}.safetensors", named.name) };
                // The verdict is on the policy that ships.
                let verdict = self.certificate.as_ref().filter(|_| shipped).map(|certificate| certificate.verdict);
                let sha256 = self.write_policy(&folder.join(&file), named.name, named.policy.as_ref(), &|file| {
                    file.set("cost_limit", self.run.cost_limit);
                    // Whose limit that is, where it has a name, and the others.
                    if !self.run.limits.is_empty() {
                        file.set("limits", &self.resolved["run"]["limits"]);
                    }
                    file.set("verdict", verdict.map_or("none", Verdict::name));
                    file.set("dataset_sha256", &origin.dataset_sha256);
                    file.set("date", &origin.date);
                })?;
                written.push(PolicyRecord { policy: named.name.into(), file, sha256 });
            }
            if let Some(certificate) = &mut self.certificate {
                certificate.policy_files.clone_from(&written);
            }
            Ok(written)
        })
    }

    /// Writes one policy file, with what `describe` adds; returns the sha256 of its bytes.
    pub(super) fn write_policy(
        &self,
        path: &Path,
        name: &str,
        policy: &dyn FrozenPolicy,
        describe: &dyn Fn(&mut PolicyFile),
    ) -> Result<String> {
        let mut file = policy.file()?;
        self.data.normalizer.describe(&mut file);
        file.set("algorithm", self.resolved["algorithm"].as_str().unwrap_or_default());
        file.set("name", name);
        file.set("created_by", format!("drcorl {}", env!("CARGO_PKG_VERSION")));
        describe(&mut file);
        // What cannot be read back must not be written.
        drcorl_actor::Actor::new(&file).map_err(|error| Error::Data(error.to_string()))?;
        let bytes = file.to_bytes();
        write_atomically(path, &bytes)?;
        Ok(sha256(&bytes))
    }
}
