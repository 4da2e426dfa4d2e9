//! Answers as the base model should give them, and pairs of answers of which one is better.
//!
//! In a pair, length says nothing about truth: a topic question's two lengths are drawn from one
//! distribution before anything is decided about truth, and two descriptions are equally long. (Every
//! claim has the same number of tokens.) Otherwise a judge could learn length and pass for one that
//! looks. Neither does a value: a wrong one is drawn uniformly, as the true ones are, so that no text says
//! of itself that it is wrong.

use rand::Rng;
use rand::seq::index;
use rand_chacha::ChaCha12Rng;

use super::config::DemonstrationConfig;
use crate::claim::Claim;
use crate::mistakes::{Narrator, happens, stereotype};
use crate::question::Question;

/// Two answers to one question.
pub(crate) struct Pair {
    /// The one of higher quality.
    pub(crate) better: Vec<Claim>,
    /// The other.
    pub(crate) worse: Vec<Claim>,
}

/// Share of pairs in which the better answer is correct and the worse is not; in the others both are
/// correct, and the worse has false further claims.
const DECIDED_BY_CORRECTNESS: f64 = 0.7;

/// Makes answers about one clip.
pub(crate) struct Speaker<'a> {
    pub(crate) config: &'a DemonstrationConfig,
    pub(crate) narrator: Narrator<'a>,
    /// The true claims that the video shows.
    pub(crate) shown: &'a [Claim],
}

impl Speaker<'_> {
    /// An answer with the built-in faults.
    pub(crate) fn answer(&self, rng: &mut ChaCha12Rng, question: Question) -> Vec<Claim> {
        let config = self.config;
        let [target] = question.targets(self.narrator.facts)[..] else {
            let (noise, omission) = (config.description_noise, config.description_omission);
            return self.narrator.telling(rng, self.shown, noise, omission);
        };
        let said = match stereotype(target.topic()) {
            Some(claim) if happens(rng, config.prejudice) => claim,
            None if happens(rng, config.corruption) => self.narrator.distort(rng, target),
            _ => target,
        };
        let count = self.extra_count(rng, 0);
        self.with_extras(rng, said, count)
    }

    /// Two answers of different quality, better and worse.
    pub(crate) fn pair(&self, rng: &mut ChaCha12Rng, question: Question) -> Pair {
        match question.targets(self.narrator.facts)[..] {
            [target] if self.config.max_extras == 0 || happens(rng, DECIDED_BY_CORRECTNESS) => {
                self.correct_and_wrong(rng, target)
            }
            [target] => self.precise_and_not(rng, target),
            _ => self.descriptions(rng),
        }
    }

    fn correct_and_wrong(&self, rng: &mut ChaCha12Rng, target: Claim) -> Pair {
        let counts = [self.extra_count(rng, 0), self.extra_count(rng, 0)];
        // Not the stereotype: it would be wrong in most pairs, and a judge could know that from the text.
        let wrong = self.narrator.distort(rng, target);
        Pair {
            better: self.with_extras(rng, target, counts[0]),
            worse: self.with_extras(rng, wrong, counts[1]),
        }
    }

    fn precise_and_not(&self, rng: &mut ChaCha12Rng, target: Claim) -> Pair {
        let counts = [self.extra_count(rng, 1), self.extra_count(rng, 1)];
        let lies = rng.random_range(1..=counts[1]);
        let mut with = |count, lies| {
            let further = self.narrator.extras(rng, target.topic(), count, lies);
            [vec![target], further].concat()
        };
        Pair { better: with(counts[0], 0), worse: with(counts[1], lies) }
    }

    fn descriptions(&self, rng: &mut ChaCha12Rng) -> Pair {
        let told = self.narrator.description(rng, 0.0, self.config.description_omission);
        let many = rng.random_range(1..=told.len().min(3));
        let few = rng.random_range(0..many);
        let mut with_errors = |errors| {
            let mut claims = told.clone();
            for at in index::sample(rng, told.len(), errors) {
                claims[at] = self.narrator.distort(rng, told[at]);
            }
            claims
        };
        Pair { better: with_errors(few), worse: with_errors(many) }
    }

    fn with_extras(&self, rng: &mut ChaCha12Rng, said: Claim, count: usize) -> Vec<Claim> {
        let lies = (0..count).filter(|_| happens(rng, self.config.extra_falsehood)).count();
        [vec![said], self.narrator.extras(rng, said.topic(), count, lies)].concat()
    }

    /// How many further claims: at least `least`, each one more with probability `verbosity`.
    fn extra_count(&self, rng: &mut ChaCha12Rng, least: usize) -> usize {
        let most = self.config.max_extras as usize;
        let mut count = least;
        while count < most && happens(rng, self.config.verbosity) {
            count += 1;
        }
        count
    }

    /// The annotator's choice, true for the better answer. One rule, however the comparison is shown.
    pub(crate) fn prefers_better(&self, rng: &mut ChaCha12Rng, pair: &Pair) -> bool {
        let by_length = happens(rng, self.config.length_bias);
        let slips = happens(rng, self.config.judge_noise);
        match pair.better.len().cmp(&pair.worse.len()) {
            std::cmp::Ordering::Greater if by_length => true,
            std::cmp::Ordering::Less if by_length => false,
            _ => !slips,
        }
    }
}
