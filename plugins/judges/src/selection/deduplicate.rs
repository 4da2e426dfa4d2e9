//! The selection `deduplicate`: no two pairs with the same texts.

use std::collections::BTreeSet;
use std::sync::Arc;

use isr_api::{BuildContext, Candidate, Cause, Component, Decision, Selection};
use isr_run::words::words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{by_margin, decided, sides};

/// Keeps the pair of largest margin among pairs with the same texts: chosen and rejected answer are compared
/// in lower case, without punctuation at the ends of words, and word by word. Drops the others as `no
/// preference`, `duplicate pair`, or `same answer twice` if chosen and rejected text are the same.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeduplicateConfig {
    /// Whether a pair with chosen and rejected text exchanged is a duplicate, too. For two videos opposite
    /// preferences can both be right. Default false.
    pub either_way: bool,
}

impl Component for DeduplicateConfig {
    type Built = Arc<dyn Selection>;

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(Deduplicate { either_way: self.either_way }))
    }
}

isr_config::register!(Selection "deduplicate" => DeduplicateConfig, example = "either_way = false\n");

struct Deduplicate {
    either_way: bool,
}

fn normalised(text: &str) -> String {
    let letters = |word: &str| word.trim_matches(|c: char| c.is_ascii_punctuation()).to_lowercase();
    let words = words(text).map(letters).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

impl Selection for Deduplicate {
    fn select(&self, candidates: &[Candidate]) -> Vec<Decision> {
        let mut decisions: Vec<_> = candidates.iter().map(decided).collect();
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by(|&left, &right| by_margin(&candidates[left], &candidates[right]));
        let mut seen = BTreeSet::new();
        for index in order {
            let Some(texts) = sides(&candidates[index]) else { continue };
            let mut key = texts.map(normalised);
            if key[0] == key[1] {
                decisions[index] = Decision::Drop("same answer twice".to_owned());
                continue;
            }
            if self.either_way {
                key.sort();
            }
            if !seen.insert(key) {
                decisions[index] = Decision::Drop("duplicate pair".to_owned());
            }
        }
        decisions
    }
}

#[cfg(test)]
mod tests {
    use super::normalised;
    use crate::selection::tests::decisions;

    const CANDIDATES: [(&str, &str, &str, f64); 6] = [
        ("a", "A dog.", "a cat", 0.7),
        ("b", "a  dog", "A cat!", 0.9),
        ("c", "a cat", "a dog", 0.2),
        ("d", "a dog", "a cat", 0.2),
        ("e", "A dog", "a dog.", 0.9),
        ("f", "a dog", "a cat", 0.5),
    ];

    #[test]
    fn the_surest_of_the_same_texts_is_kept() {
        let said = decisions("type = 'deduplicate'", &CANDIDATES);
        let duplicate = "duplicate pair";
        assert_eq!(said, [duplicate, "1", duplicate, "2", "same answer twice", "no preference"]);
    }

    #[test]
    fn either_way_takes_the_opposite_preference_for_a_duplicate() {
        let said = decisions("type = 'deduplicate'\neither_way = true", &CANDIDATES);
        assert_eq!(said[1], "1");
        assert_eq!(said[3], "duplicate pair");
    }

    #[test]
    fn case_spaces_and_punctuation_do_not_count_but_letters_inside_do() {
        assert_eq!(normalised(" \"A dog\" runs - fast! "), "a dog runs fast");
        assert_ne!(normalised("it's"), normalised("its"));
        assert_eq!(normalised("狗在跑。"), normalised("狗 在跑"));
        assert_eq!(normalised("犬が、走る。"), normalised("犬が走る"));
        assert_ne!(normalised("狗在跑"), normalised("猫在跑"));
    }
}
