//! Where a run stands, as a file: saved, resumed, and taken over by runs of other parameters.

use super::{at_work, guarded, Trainer, TrainerConfig, NEVER};
use crate::algorithm::{find, to_value, Registry};
use crate::error::{Error, Result};
use crate::reuse::require_shared;
use crate::run::RunConfig;
use crate::stage::{Stage, Stretch};
use drcorl_data::Columns;
use drcorl_nn::checkpoint::State;
use std::path::Path;
use std::sync::Arc;

/// What a checkpoint holds, and of which run.
fn stored(path: &Path) -> Result<(State, TrainerConfig)> {
    let (state, config) = State::read(path)?;
    let config = serde_json::from_value(config)
        .map_err(|error| Error::Data(format!("{}: stored configuration: {error}", path.display())))?;
    Ok((state, config))
}

impl Trainer {
    /// Continues the run stored at `path`; the next step is the one the stored run would have made.
    pub fn resume(registry: Registry, columns: Arc<Columns>, path: &Path) -> Result<Trainer> {
        let (state, config) = stored(path)?;
        guarded(|| {
            let mut trainer = Trainer::build(registry, columns, &config)?;
            trainer.restore(state)?;
            Ok(trainer)
        })
    }

    /// A run on `columns` whose first phases another one has made: `json` is a [`TrainerConfig`], `path` what was saved
    /// when that run's status said `pretrained`. Goes on to the bits of a run that makes them itself; the test of the
    /// dynamics models is made anew, because it depends on the limit.
    ///
    /// Errs with `Config`, naming the parameter and both values, where they differ in one that shaped these phases.
    pub fn reuse(registry: Registry, columns: Arc<Columns>, json: &str, path: &Path) -> Result<Trainer> {
        let config: TrainerConfig = serde_json::from_str(json).map_err(|error| Error::Config(error.to_string()))?;
        let (state, made) = stored(path)?;
        guarded(|| {
            let entry = find(registry, &config.algorithm)?;
            let run = RunConfig::resolve(&config.run)?;
            let own = entry.resolve(&config.config, &run)?;
            // Parameters that the other run did not know were at their defaults.
            let made = TrainerConfig { run: to_value(&RunConfig::resolve(&made.run)?)?, ..made };
            let wanted = TrainerConfig { algorithm: config.algorithm.clone(), run: to_value(&run)?, config: own };
            require_shared(registry, &wanted, &made, path)?;
            let mut trainer = Trainer::build(registry, columns, &config)?;
            trainer.restore(state)?;
            if !trainer.pretrained() {
                return Err(Error::Data(format!(
                    "{} was not saved where the pretraining ends; give the file of a run that was",
                    path.display()
                )));
            }
            let pool = trainer.pool.clone();
            let _at_work = at_work(&pool, trainer.run.matmul_precision);
            trainer.judge.test_again(&trainer.data, &trainer.run, &NEVER)?;
            trainer.reader.test_again(&trainer.data, &trainer.run, &NEVER)?;
            Ok(trainer)
        })
    }

    /// Takes over what was stored.
    pub(super) fn restore(&mut self, state: State) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let all = self.whole.as_ref().unwrap_or(&self.data);
        let mut state = state.over(all.len(), all.episodes.len());
        self.persist(&mut state)?;
        state.finish()?;
        self.require_position(&state)
    }

    /// True at the first step of the phase before which the pretraining ends.
    pub(super) fn pretrained(&self) -> bool {
        let Some(Stretch { name, stage: Stage::Algorithm(_), .. }) = self.phases.get(self.phase) else { return false };
        self.phase_step == 0 && self.pretraining.is_some_and(|pretraining| pretraining.before == *name)
    }

    /// Errs where the counters that were read are none that training can reach.
    pub(super) fn require_position(&self, state: &State) -> Result<()> {
        let Trainer { phase, phase_step, step, .. } = *self;
        let (phases, done) = (self.phases.len(), phase == self.phases.len());
        let refuse = |name, what: String| Err(state.refuse(name, what).into());
        if phase > phases {
            return refuse("phase", format!("is {phase}, this run has {phases}"));
        }
        let steps = self.phases.get(phase).map_or(1, |stretch| stretch.steps);
        if phase_step >= steps {
            return refuse("phase_step", format!("is {phase_step}, phase {phase} ends at {steps}"));
        }
        let before = self.phases[..phase].iter().map(|stretch| stretch.steps).sum::<u64>() + phase_step;
        if step != before {
            return refuse("step", format!("is {step}, but phase {phase} and phase_step {phase_step} make {before}"));
        }
        if let Some(number) = (phase..phases).find(|&number| self.phases[number].left_out) {
            return refuse("left_out", format!("has {number}, but phase {phase} is not over"));
        }
        if done != self.certificate.is_some() {
            return refuse("certificate", "does not fit the phase".into());
        }
        Ok(())
    }

    /// Writes a checkpoint atomically.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        guarded(|| {
            let mut state = State::saving();
            self.persist(&mut state)?;
            Ok(state.write(path, &self.resolved)?)
        })
    }

    pub(super) fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.value("phase", &mut self.phase)?;
        state.value("phase_step", &mut self.phase_step)?;
        state.value("step", &mut self.step)?;
        // By number: the phases to come may be others, where another run takes this over, and names are no keys.
        let phases = self.phases.len();
        let mut left_out: Vec<usize> = (0..phases).filter(|&number| self.phases[number].left_out).collect();
        state.value("left_out", &mut left_out)?;
        if let Some(number) = left_out.iter().find(|&&number| number >= phases) {
            return Err(state.refuse("left_out", format!("has {number}, this run has {phases} phases")));
        }
        for (number, phase) in self.phases.iter_mut().enumerate() {
            phase.left_out = left_out.contains(&number);
        }
        state.value("rng", &mut self.rng)?;
        state.value("reader_rng", &mut self.reader_rng)?;
        state.value("audit_rng", &mut self.audit_rng)?;
        state.group("visits", |state| self.visits.persist(state))?;
        state.value("certificate", &mut self.certificate)?;
        state.group("data", |state| self.data.persist(state))?;
        if let Some(whole) = &mut self.whole {
            state.group("whole", |state| whole.persist(state))?;
        }
        state.group("judge", |state| self.judge.persist(state))?;
        state.group("reader", |state| self.reader.persist(state))?;
        state.group("auditor", |state| self.auditor.persist(state))?;
        state.group("fqe", |state| self.fqe.persist(state))?;
        state.group("algorithm", |state| self.algorithm.persist(state))
    }
}
