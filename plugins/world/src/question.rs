//! What is asked about a clip.

use std::collections::BTreeSet;

use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use crate::attributes::Shape;
use crate::claim::{Claim, Topic};
use crate::facts::Facts;

/// A question, apart from its wording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Question {
    /// An object's colour.
    Colour {
        /// The object.
        shape: Shape,
    },
    /// An object's motion.
    Motion {
        /// The object.
        shape: Shape,
    },
    /// The number of objects.
    Count,
    /// The background.
    Background,
    /// Everything.
    Describe,
}

/// A clip's facts and the question about it: the `facts` of a labelled sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// What is true of the clip.
    pub clip: Facts,
    /// What was asked.
    pub question: Question,
    /// Whether the clip is painted otherwise than those of training.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shifted: bool,
}

impl Question {
    /// The questions that make sense for a clip: on the objects that it has, on count and background,
    /// and for a description. At least five.
    pub fn about(facts: &Facts) -> Vec<Self> {
        let object = |shape| [Self::Colour { shape }, Self::Motion { shape }];
        let objects = facts.objects.iter().flat_map(|it| object(it.shape));
        objects.chain([Self::Count, Self::Background, Self::Describe]).collect()
    }

    /// Five questions about a clip, one of each kind, in random order: colour and motion come twice as
    /// early as the others, and are about any of its objects. The order of kinds does not depend on the
    /// facts, so that a question says nothing of its answer.
    pub fn draw(rng: &mut ChaCha12Rng, facts: &Facts) -> Vec<Self> {
        let mut of = |kind: fn(Shape) -> Self| facts.objects.choose(rng).map(|it| kind(it.shape));
        let colour = of(|shape| Self::Colour { shape });
        let motion = of(|shape| Self::Motion { shape });
        let others = [Self::Count, Self::Background, Self::Describe].map(Some);
        let mut order: Vec<_> =
            [colour, colour, motion, motion].into_iter().chain(others).flatten().collect();
        order.shuffle(rng);
        let mut seen = BTreeSet::new();
        order.retain(|question| seen.insert(*question));
        order
    }

    /// Every question that can be asked.
    pub fn all() -> Vec<Self> {
        let object = |shape: &Shape| [Self::Colour { shape: *shape }, Self::Motion { shape: *shape }];
        let objects = Shape::ALL.iter().flat_map(object);
        objects.chain([Self::Count, Self::Background, Self::Describe]).collect()
    }

    /// The topic it asks about; `None` for a description.
    pub fn topic(self) -> Option<Topic> {
        match self {
            Self::Colour { shape } => Some(Topic::Colour(shape)),
            Self::Motion { shape } => Some(Topic::Motion(shape)),
            Self::Count => Some(Topic::Count),
            Self::Background => Some(Topic::Background),
            Self::Describe => None,
        }
    }

    /// The true claims that answer it, in the order of a description.
    pub fn targets(self, facts: &Facts) -> Vec<Claim> {
        let wanted = |claim: &Claim| self.topic().is_none_or(|topic| topic == claim.topic());
        facts.claims().into_iter().filter(wanted).collect()
    }

    /// Its wordings, which all ask for the same.
    pub fn wordings(self) -> [String; 3] {
        let about = |shape: Shape, forms: [&str; 3]| forms.map(|form| form.replace("{}", shape.word()));
        match self {
            Self::Colour { shape } => about(
                shape,
                ["what colour is the {}?", "which colour does the {} have?", "name the colour of the {}."],
            ),
            Self::Motion { shape } => about(
                shape,
                ["where does the {} move?", "which way does the {} go?", "how does the {} move?"],
            ),
            Self::Count => {
                ["how many objects are there?", "count the objects.", "what is the number of objects?"]
                    .map(str::to_owned)
            }
            Self::Background => {
                ["what is the background like?", "how does the background look?", "name the background."]
                    .map(str::to_owned)
            }
            Self::Describe => {
                ["describe the video.", "what happens in the video?", "what do you see?"].map(str::to_owned)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use isr_api::Streams;

    use super::*;
    use crate::clip::{Clip, Split};
    use crate::config::WorldConfig;

    #[test]
    fn no_wording_asks_two_questions() {
        let all: Vec<_> = Question::all().into_iter().flat_map(Question::wordings).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn every_question_about_a_clip_has_its_true_answer() {
        for index in 0..50 {
            let facts = Clip::generate(&WorldConfig::default(), Split::Training, index).facts;
            let questions = Question::about(&facts);
            assert!(questions.len() >= 5);
            for question in questions {
                let targets = question.targets(&facts);
                let expected = if question == Question::Describe { facts.claims().len() } else { 1 };
                assert_eq!(targets.len(), expected);
                assert!(targets.iter().all(|claim| claim.holds(&facts)));
            }
        }
    }

    #[test]
    fn which_kinds_are_asked_first_does_not_depend_on_the_facts() {
        let mut counts = std::collections::BTreeMap::new();
        let mut clips = [0.0; 2];
        for index in 0..12_000 {
            let facts = Clip::generate(&WorldConfig::default(), Split::Training, index).facts;
            let mut rng = Streams::new(0).rng(0, "test", &index.to_string());
            let questions = Question::draw(&mut rng, &facts);
            let kinds: BTreeSet<_> =
                questions.iter().map(std::mem::discriminant).map(|it| format!("{it:?}")).collect();
            assert_eq!((questions.len(), kinds.len()), (5, 5));
            let objects = facts.objects.len() - 1;
            clips[objects] += 1.0;
            let kind = format!("{:?}", std::mem::discriminant(&questions[0]));
            counts.entry(kind).or_insert([0.0; 2])[objects] += 1.0;
        }
        for (kind, count) in counts {
            let (one, two): (f64, f64) = (count[0] / clips[0], count[1] / clips[1]);
            assert!((one - two).abs() < 0.035, "{kind}: {one} and {two}");
        }
    }

    #[test]
    fn truth_has_a_plain_serialised_form() {
        let json = serde_json::to_string(&Question::Colour { shape: Shape::Bar }).unwrap();
        assert_eq!(json, r#"{"kind":"colour","shape":"bar"}"#);
    }
}
