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

/// Tells of a clip, truly or not.
#[derive(Clone, Copy)]
pub(crate) struct Narrator<'a> {
    /// The clip's facts.
    pub(crate) facts: &'a Facts,
    /// Most objects of any clip of the world.
    pub(crate) max_objects: u32,
}

impl Narrator<'_> {
    /// Another claim on the same topic, each as likely. Counts stay among those that the world has, since
    /// a count that never occurs would give a lie away; where it has one only, any other is taken.
    pub(crate) fn distort(&self, rng: &mut ChaCha12Rng, claim: Claim) -> Claim {
        let occurs = |other: &Claim| match other {
            Claim::Count(count) => self.max_objects < 2 || (*count as u32) < self.max_objects,
            _ => true,
        };
        let others = claim.topic().claims().into_iter().filter(|other| *other != claim);
        others.filter(occurs).collect::<Vec<_>>().choose(rng).copied().unwrap_or(claim)
    }

    /// A claim about an object that does not occur.
    fn invention(&self, rng: &mut ChaCha12Rng) -> Option<Claim> {
        let shape = *self.facts.absent().choose(rng)?;
        let topic = if happens(rng, 0.5) { Topic::Colour(shape) } else { Topic::Motion(shape) };
        topic.claims().choose(rng).copied()
    }

    /// `count` claims on topics other than `avoid`, as many of them false as `falsehoods` says: half of
    /// the false ones are about objects that do not occur. In random order; fewer only where the topics
    /// run out.
    pub(crate) fn extras(
        &self,
        rng: &mut ChaCha12Rng,
        avoid: Topic,
        count: usize,
        falsehoods: usize,
    ) -> Vec<Claim> {
        let mut seen: Vec<_> = self.facts.claims().into_iter().filter(|it| it.topic() != avoid).collect();
        seen.shuffle(rng);
        let mut topics = HashSet::from([avoid]);
        let mut claims = Vec::with_capacity(count);
        while claims.len() < count {
            let is_false = claims.len() < falsehoods;
            let invented = (is_false && happens(rng, 0.5)).then(|| self.invention(rng)).flatten();
            let claim = match invented {
                Some(claim) => claim,
                None => match seen.pop() {
                    Some(truth) if is_false => self.distort(rng, truth),
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

    /// A description of all facts; [`telling`](Self::telling) says how true it is.
    pub(crate) fn description(&self, rng: &mut ChaCha12Rng, noise: f64, omission: f64) -> Vec<Claim> {
        self.telling(rng, &self.facts.claims(), noise, omission)
    }

    /// Some true claims, of which each is left out with probability `omission`, else false with probability
    /// `noise`. At least one claim remains.
    pub(crate) fn telling(
        &self,
        rng: &mut ChaCha12Rng,
        claims: &[Claim],
        noise: f64,
        omission: f64,
    ) -> Vec<Claim> {
        let mut kept: Vec<_> = claims.iter().copied().filter(|_| !happens(rng, omission)).collect();
        if kept.is_empty() {
            kept.extend(claims.first());
        }
        let tell = |claim| if happens(rng, noise) { self.distort(rng, claim) } else { claim };
        kept.into_iter().map(tell).collect()
    }
}

#[cfg(test)]
mod tests {
    use isr_api::Streams;
    use proptest::prelude::*;

    use super::*;
    use crate::attributes::Count;
    use crate::clip::{Clip, Split};
    use crate::config::WorldConfig;
    use crate::reading::Reading;

    fn case(index: u32) -> (ChaCha12Rng, Facts) {
        let config = WorldConfig { max_objects: 3, ..WorldConfig::default() };
        let rng = Streams::new(1).rng(0, "test", &index.to_string());
        (rng, Clip::generate(&config, Split::WarmStart, index).facts)
    }

    fn narrator(facts: &Facts) -> Narrator<'_> {
        Narrator { facts, max_objects: 3 }
    }

    proptest! {
        #[test]
        fn a_distorted_claim_is_always_false_and_on_topic(index in 0_u32..100_000) {
            let (mut rng, facts) = case(index);
            for truth in facts.claims() {
                let claim = narrator(&facts).distort(&mut rng, truth);
                prop_assert!(!claim.holds(&facts));
                prop_assert_eq!(claim.topic(), truth.topic());
            }
        }

        #[test]
        fn extras_are_as_many_and_as_false_as_asked(
            index in 0_u32..100_000, count in 0_usize..=3, wanted in 0_usize..=3,
        ) {
            let (mut rng, facts) = case(index);
            let avoid = facts.claims()[1].topic();
            let falsehoods = wanted.min(count);
            let claims = narrator(&facts).extras(&mut rng, avoid, count, falsehoods);
            prop_assert_eq!(claims.len(), count);
            prop_assert_eq!(claims.iter().filter(|claim| !claim.holds(&facts)).count(), falsehoods);
            let topics: HashSet<_> = claims.iter().map(|claim| claim.topic()).collect();
            prop_assert!(topics.len() == count && !topics.contains(&avoid));
        }

        #[test]
        fn a_description_without_noise_is_true_and_with_full_noise_false(index in 0_u32..100_000) {
            let (mut rng, facts) = case(index);
            prop_assert_eq!(narrator(&facts).description(&mut rng, 0.0, 0.0), facts.claims());
            let reading = |claims: &[Claim]| Reading::of(&crate::claim::text(claims));
            let lies = narrator(&facts).description(&mut rng, 1.0, 0.3);
            prop_assert_eq!(reading(&lies).precision(&facts), Some(0.0));
            prop_assert_eq!(narrator(&facts).description(&mut rng, 0.0, 1.0).len(), 1);
        }
    }

    #[test]
    fn a_stereotype_is_on_its_own_topic() {
        let topics: HashSet<_> = Claim::all().into_iter().map(Claim::topic).collect();
        let prejudiced: Vec<_> = topics.into_iter().filter(|it| stereotype(*it).is_some()).collect();
        assert_eq!(prejudiced.len(), 4);
        assert!(prejudiced.iter().all(|it| stereotype(*it).map(Claim::topic) == Some(*it)));
    }

    #[test]
    fn a_false_count_is_one_that_occurs_elsewhere() {
        let (mut rng, facts) = case(0);
        let counts = |max_objects, rng: &mut ChaCha12Rng| -> HashSet<_> {
            let narrator = Narrator { facts: &facts, max_objects };
            (0..50).map(|_| narrator.distort(rng, Claim::Count(Count::One))).collect()
        };
        assert_eq!(counts(2, &mut rng), HashSet::from([Claim::Count(Count::Two)]));
        assert_eq!(counts(3, &mut rng).len(), 2);
        assert_eq!(counts(1, &mut rng).len(), 2, "a false one all the same");
    }
}
