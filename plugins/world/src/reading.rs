//! Reading any text as claims, and weighing it against the facts.

use crate::claim::Claim;
use crate::facts::Facts;

/// What a text says: its different claims, and its different sentences that are none.
///
/// A sentence ends at `.`, `!`, `?`, `;`, a line break or the text's end, so a text that the token
/// limit cut off usually ends in a sentence that is no claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The claims, each once, in order of appearance.
    pub claims: Vec<Claim>,
    /// Other sentences in lower case, each once, in order of appearance.
    pub unparsed: Vec<String>,
    /// How many sentences there are, repeated ones included.
    pub sentences: usize,
}

impl Reading {
    /// Reads a text.
    pub fn of(text: &str) -> Self {
        let mut reading = Self::default();
        let sentences = text.split(['.', '!', '?', ';', '\n']).map(str::trim);
        for sentence in sentences.filter(|sentence| !sentence.is_empty()) {
            reading.sentences += 1;
            match Claim::parse(sentence) {
                Some(claim) if reading.claims.contains(&claim) => {}
                Some(claim) => reading.claims.push(claim),
                None => reading.note_unparsed(sentence.to_lowercase()),
            }
        }
        reading
    }

    fn note_unparsed(&mut self, sentence: String) {
        if !self.unparsed.contains(&sentence) {
            self.unparsed.push(sentence);
        }
    }

    /// How many different sentences there are.
    pub fn unique(&self) -> usize {
        self.claims.len() + self.unparsed.len()
    }

    /// Share of sentences that repeat an earlier one; 0 for an empty text.
    pub fn repetition(&self) -> f64 {
        share(self.sentences - self.unique(), self.sentences).unwrap_or(0.0)
    }

    /// True where the claim is made, and no other claim on its topic contradicts it.
    pub fn asserts(&self, claim: Claim) -> bool {
        let on_topic: Vec<_> = self.claims.iter().filter(|it| it.topic() == claim.topic()).collect();
        on_topic == [&claim]
    }

    /// Share of different sentences that are true; `None` for an empty text.
    pub fn precision(&self, facts: &Facts) -> Option<f64> {
        share(self.claims.iter().filter(|claim| claim.holds(facts)).count(), self.unique())
    }

    /// Share of `targets` that are [asserted](Self::asserts); 1 where there is none.
    pub fn recall(&self, targets: &[Claim]) -> f64 {
        let met = targets.iter().filter(|target| self.asserts(**target)).count();
        share(met, targets.len()).unwrap_or(1.0)
    }
}

fn share(part: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::attributes::{Background, Colour, Motion, Shape};
    use crate::claim::text;
    use crate::clip::{Clip, Split};
    use crate::config::WorldConfig;
    use crate::facts::Object;
    use crate::question::Question;

    fn red_bar() -> Facts {
        let bar = Object { shape: Shape::Bar, colour: Colour::Red, motion: Motion::Left };
        Facts { objects: vec![bar], background: Background::Dark }
    }

    #[test]
    fn a_text_is_split_into_claims_and_other_sentences() {
        let reading = Reading::of("The bar is red. bar moves up! I like it\nbar is");
        assert_eq!(
            reading.claims,
            [Claim::Colour(Shape::Bar, Colour::Red), Claim::Motion(Shape::Bar, Motion::Up)]
        );
        assert_eq!(reading.unparsed, ["i like it", "bar is"]);
        assert_eq!((reading.sentences, reading.unique()), (4, 4));
        assert_eq!(reading.precision(&red_bar()), Some(0.25));
    }

    #[test]
    fn repetition_counts_once_and_is_reported() {
        let reading = Reading::of("bar is red. bar is red. bar is red. so it is. so it is.");
        assert_eq!(reading.unique(), 2);
        assert!((reading.repetition() - 0.6).abs() < 1e-12);
        assert_eq!(reading.precision(&red_bar()), Some(0.5));
    }

    #[test]
    fn an_empty_text_says_nothing() {
        let reading = Reading::of(" . \n");
        assert_eq!(reading, Reading::default());
        assert_eq!((reading.precision(&red_bar()), reading.repetition()), (None, 0.0));
    }

    #[test]
    fn a_contradicted_claim_is_not_asserted() {
        let red = Claim::Colour(Shape::Bar, Colour::Red);
        assert!(Reading::of("bar is red. ring is blue.").asserts(red));
        assert!(!Reading::of("bar is red. bar is blue.").asserts(red));
        assert!(!Reading::of("bar is blue.").asserts(red));
    }

    proptest! {
        #[test]
        fn reference_answers_read_as_all_true(index in 0_u32..100_000, seed in 0_u64..1000) {
            let config = WorldConfig { max_objects: 3, seed, ..WorldConfig::default() };
            let facts = Clip::generate(&config, Split::Evaluation, index).facts;
            for question in Question::about(&facts) {
                let targets = question.targets(&facts);
                let reading = Reading::of(&text(&targets));
                prop_assert_eq!(reading.precision(&facts), Some(1.0));
                prop_assert_eq!(reading.recall(&targets), 1.0);
            }
        }

        #[test]
        fn any_text_can_be_read(text in ".{0,200}") {
            let reading = Reading::of(&text);
            prop_assert!(reading.unique() <= reading.sentences);
            prop_assert!((0.0..=1.0).contains(&reading.repetition()));
        }
    }
}
