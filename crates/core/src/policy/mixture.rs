//! Several policies as one: at the start of an episode one is drawn by weight, and plays all of it.

use super::{FrozenPolicy, PlayedFile};
use crate::error::{Error, Result};
use drcorl_actor::PolicyFile;

/// The mixture of `members`, each with its weight above 0, as a policy for `[S, A]` observations and actions.
///
/// Members are of one kind, `mlp` or `gaussian`, and agree in their metadata. `seed` is the policy's: whoever plays is
/// drawn by it, by the seed of the episode and by its first observation.
pub fn mixture(members: &[(f64, &dyn FrozenPolicy)], seed: u64, [states, actions]: [i64; 2]) -> Result<PlayedFile> {
    let mut mixed: Option<PolicyFile> = None;
    for (k, (_, member)) in members.iter().enumerate() {
        let PolicyFile { metadata, tensors } = member.file()?;
        let file = mixed.get_or_insert_with(|| PolicyFile { metadata, ..PolicyFile::default() });
        file.tensors.extend(tensors.into_iter().map(|(name, values)| (format!("member.{k}.{name}"), values)));
    }
    let mut file = mixed.ok_or_else(|| Error::Config("a mixture needs a policy".into()))?;
    let kind = file.metadata.get("kind").cloned().unwrap_or_default();
    file.set("member_kind", kind);
    file.set("kind", "mixture");
    file.set("seed", seed);
    let weights = members.iter().map(|(weight, _)| *weight as f32);
    file.insert("weights", &[members.len()], weights.collect());
    Ok(PlayedFile::new(file, states, actions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Policy, Spread};
    use drcorl_nn::rng::Rng;
    use tch::{Device, Tensor};

    /// Every action is that of one member, the same one all along an episode, and each plays its share of episodes.
    #[test]
    fn a_mixture_plays_its_members_by_the_episode() {
        let _no_grad = tch::no_grad_guard();
        let mut rng = Rng::new(31, 0);
        for spread in [Spread::None, Spread::Constant(0.1), Spread::Learnt(0.1)] {
            let mut policy = || Policy::spread(3, 2, &[16], spread, false, Device::Cpu, &mut rng).live();
            let members = [policy(), policy()];
            let mixed = mixture(&[(3.0, &members[0]), (1.0, &members[1])], 0, [3, 2]).unwrap();
            assert!(mixed.remembers());
            let rows = 4000;
            let mut player = mixed.start(rows);
            let zero = Tensor::zeros([rows, 1], (tch::Kind::Float, Device::Cpu));
            let mut drawn: Option<Tensor> = None;
            for _ in 0..3 {
                let observation = rng.normal(&[rows, 3], Device::Cpu);
                let turn = crate::policy::Turn { observation: &observation, reward: &zero, cost: &zero };
                let action = player.act(&turn);
                let by = |member: &super::super::FrozenMlp| {
                    (member.act(&observation) - &action).abs().amax([1i64].as_slice(), false).lt(1e-5)
                };
                let second = by(&members[1]);
                assert!(bool::try_from(by(&members[0]).logical_xor(&second).all()).unwrap());
                assert!(drawn.as_ref().is_none_or(|before| *before == second));
                drawn = Some(second);
            }
            let share = drawn.unwrap().to_kind(tch::Kind::Double).mean(tch::Kind::Double).double_value(&[]);
            assert!((share - 0.25).abs() < 0.035, "{share}");
        }
        assert!(mixture(&[], 0, [3, 2]).is_err());
    }
}
