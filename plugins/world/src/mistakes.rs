//! What the warm start gets wrong on purpose: false claims, extra claims, noisy descriptions.

use std::collections::HashSet;

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha12Rng;

use crate::attributes::{Colour, Motion, Shape};
use crate::claim::{Claim, Topic};
use crate::facts::Facts;

/// True with that probability.
pub(crate) fn happens(rng: &mut ChaCha12Rng, probability: f64) -> bool {
    rng.random::<f64>() < probability
}

/// What is said of some shapes whatever is seen; `None` for the topics that nobody is prejudiced about.
pub fn stereotype(topic: Topic) -> Option<Claim> {
    match topic {
        Topic::Colour(shape @ Shape::Cross) => Some(Claim::Colour(shape, Colour::Red)),
        Topic::Colour(shape @ Shape::Ring) => Some(Claim::Colour(shape, Colour::Blue)),
        Topic::Motion(shape @ Shape::Bar) => Some(Claim::Motion(shape, Motion::Right)),
        Topic::Motion(shape @ Shape::Triangle) => Some(Claim::Motion(shape, Motion::Up)),
        _ => None,
    }
}

/// Another claim on the same topic, each as likely.
pub(crate) fn distort(rng: &mut ChaCha12Rng, claim: Claim) -> Claim {
    let others: Vec<_> = claim.topic().claims().into_iter().filter(|other| *other != claim).collect();
    others.choose(rng).copied().unwrap_or(claim)
}

/// A false claim on the topic of a true one: the stereotype, where there is one that is false here and
/// `prejudice` strikes; else any.
pub(crate) fn mistake(rng: &mut ChaCha12Rng, truth: Claim, prejudice: f64) -> Claim {
    match stereotype(truth.topic()).filter(|claim| *claim != truth) {
        Some(claim) if happens(rng, prejudice) => claim,
        _ => distort(rng, truth),
    }
}

/// A claim about an object that does not occur.
fn invention(rng: &mut ChaCha12Rng, facts: &Facts) -> Option<Claim> {
    let shape = *facts.absent().choose(rng)?;
    let topic = if happens(rng, 0.5) { Topic::Colour(shape) } else { Topic::Motion(shape) };
    topic.claims().choose(rng).copied()
}

/// `count` claims on topics other than `avoid`, as many of them false as `falsehoods` says: half of the
/// false ones are about objects that do not occur. In random order; fewer only where the topics run out.
pub(crate) fn extras(
    rng: &mut ChaCha12Rng,
    facts: &Facts,
    avoid: Topic,
    count: usize,
    falsehoods: usize,
) -> Vec<Claim> {
    let mut seen: Vec<_> = facts.claims().into_iter().filter(|claim| claim.topic() != avoid).collect();
    seen.shuffle(rng);
    let mut topics = HashSet::from([avoid]);
    let mut claims = Vec::with_capacity(count);
    while claims.len() < count {
        let is_false = claims.len() < falsehoods;
        let invented = (is_false && happens(rng, 0.5)).then(|| invention(rng, facts)).flatten();
        let claim = match invented {
            Some(claim) => claim,
            None => match seen.pop() {
                Some(truth) if is_false => distort(rng, truth),
                Some(truth) => truth,
                None => break,
            },
        };
        if topics.insert(claim.topic()) {
            claims.push(claim);
        }
    }
    claims.shuffle(rng);
    claims
}

/// A description of which each claim is left out with probability `omission`, else false with
/// probability `noise`. At least one claim remains.
pub(crate) fn description(rng: &mut ChaCha12Rng, facts: &Facts, noise: f64, omission: f64) -> Vec<Claim> {
    let all = facts.claims();
    let mut kept: Vec<_> = all.iter().copied().filter(|_| !happens(rng, omission)).collect();
    if kept.is_empty() {
        kept.extend(all.first());
    }
    kept.into_iter().map(|claim| if happens(rng, noise) { distort(rng, claim) } else { claim }).collect()
}

#[cfg(test)]
mod tests {
    use isr_core::Streams;
    use proptest::prelude::*;

    use super::*;
    use crate::clip::{Clip, Split};
    use crate::config::WorldConfig;
    use crate::reading::Reading;

    fn case(index: u32) -> (ChaCha12Rng, Facts) {
        let config = WorldConfig { max_objects: 3, ..WorldConfig::default() };
        let rng = Streams::new(1).rng(0, "test", &index.to_string());
        (rng, Clip::generate(&config, Split::WarmStart, index).facts)
    }

    proptest! {
        #[test]
        fn a_mistake_is_always_false_and_on_topic(index in 0_u32..100_000) {
            let (mut rng, facts) = case(index);
            for truth in facts.claims() {
                for claim in [mistake(&mut rng, truth, 0.5), distort(&mut rng, truth)] {
                    prop_assert!(!claim.holds(&facts));
                    prop_assert_eq!(claim.topic(), truth.topic());
                }
            }
        }

        #[test]
        fn extras_are_as_many_and_as_false_as_asked(
            index in 0_u32..100_000, count in 0_usize..=3, wanted in 0_usize..=3,
        ) {
            let (mut rng, facts) = case(index);
            let avoid = facts.claims()[1].topic();
            let falsehoods = wanted.min(count);
            let claims = extras(&mut rng, &facts, avoid, count, falsehoods);
            prop_assert_eq!(claims.len(), count);
            prop_assert_eq!(claims.iter().filter(|claim| !claim.holds(&facts)).count(), falsehoods);
            let topics: HashSet<_> = claims.iter().map(|claim| claim.topic()).collect();
            prop_assert!(topics.len() == count && !topics.contains(&avoid));
        }

        #[test]
        fn a_description_without_noise_is_true_and_with_full_noise_false(index in 0_u32..100_000) {
            let (mut rng, facts) = case(index);
            prop_assert_eq!(description(&mut rng, &facts, 0.0, 0.0), facts.claims());
            let reading = |claims: &[Claim]| Reading::of(&crate::claim::text(claims));
            let lies = description(&mut rng, &facts, 1.0, 0.3);
            prop_assert_eq!(reading(&lies).precision(&facts), Some(0.0));
            prop_assert_eq!(description(&mut rng, &facts, 0.0, 1.0).len(), 1);
        }
    }

    #[test]
    fn a_stereotype_is_on_its_own_topic() {
        let topics: HashSet<_> = Claim::all().into_iter().map(Claim::topic).collect();
        let prejudiced: Vec<_> = topics.into_iter().filter(|it| stereotype(*it).is_some()).collect();
        assert_eq!(prejudiced.len(), 4);
        assert!(prejudiced.iter().all(|it| stereotype(*it).map(Claim::topic) == Some(*it)));
    }
}
