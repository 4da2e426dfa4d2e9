//! The claim: the one kind of sentence that descriptions and answers are made of.
//!
//! Every claim is `subject verb value.`, four tokens with its full stop. So a text's length is its
//! number of claims, whether they are true or not, and the verb gives nothing away of the value.

use std::fmt;

use crate::attributes::{Background, Colour, Count, Motion, Shape};
use crate::facts::{Facts, Object};

/// A statement about a clip; [`Display`](fmt::Display) writes its sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Claim {
    /// "bar is red."
    Colour(Shape, Colour),
    /// "bar moves left."
    Motion(Shape, Motion),
    /// "count is two."
    Count(Count),
    /// "background is striped."
    Background(Background),
}

/// What a claim is about. A clip has at most one true claim on a topic, so two different claims on one
/// topic contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// An object's colour.
    Colour(Shape),
    /// An object's motion.
    Motion(Shape),
    /// The number of objects.
    Count,
    /// The background.
    Background,
}

impl Topic {
    /// Every claim that can be made on the topic, in the attribute's order.
    pub fn claims(self) -> Vec<Claim> {
        match self {
            Self::Colour(shape) => Colour::ALL.iter().map(|value| Claim::Colour(shape, *value)).collect(),
            Self::Motion(shape) => Motion::ALL.iter().map(|value| Claim::Motion(shape, *value)).collect(),
            Self::Count => Count::ALL.iter().map(|value| Claim::Count(*value)).collect(),
            Self::Background => Background::ALL.iter().map(|value| Claim::Background(*value)).collect(),
        }
    }
}

impl Claim {
    /// Every claim that the grammar can express.
    pub fn all() -> Vec<Self> {
        let object = |shape: &Shape| [Topic::Colour(*shape), Topic::Motion(*shape)];
        let topics = Shape::ALL.iter().flat_map(object).chain([Topic::Count, Topic::Background]);
        topics.flat_map(Topic::claims).collect()
    }

    /// What the claim is about.
    pub fn topic(self) -> Topic {
        match self {
            Self::Colour(shape, _) => Topic::Colour(shape),
            Self::Motion(shape, _) => Topic::Motion(shape),
            Self::Count(_) => Topic::Count,
            Self::Background(_) => Topic::Background,
        }
    }

    /// Subject, verb and value.
    pub fn words(self) -> [&'static str; 3] {
        match self {
            Self::Colour(shape, value) => [shape.word(), "is", value.word()],
            Self::Motion(shape, value) => [shape.word(), "moves", value.word()],
            Self::Count(value) => ["count", "is", value.word()],
            Self::Background(value) => ["background", "is", value.word()],
        }
    }

    /// True where the facts say so; a claim about an object that does not occur is false.
    pub fn holds(self, facts: &Facts) -> bool {
        match self {
            Self::Colour(shape, value) => facts.object(shape).is_some_and(|it| it.colour == value),
            Self::Motion(shape, value) => facts.object(shape).is_some_and(|it| it.motion == value),
            Self::Count(value) => facts.count() == Some(value),
            Self::Background(value) => facts.background == value,
        }
    }

    /// Reads one sentence, without its full stop. Case and the articles `a`, `an`, `the` do not matter;
    /// anything else beside the three words makes it no claim.
    pub fn parse(sentence: &str) -> Option<Self> {
        let sentence = sentence.to_lowercase();
        let mut words = sentence.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the"));
        let (subject, verb, value) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() {
            return None;
        }
        match (subject, verb) {
            ("count", "is") => Count::from_word(value).map(Self::Count),
            ("background", "is") => Background::from_word(value).map(Self::Background),
            (shape, "is") => Some(Self::Colour(Shape::from_word(shape)?, Colour::from_word(value)?)),
            (shape, "moves") => Some(Self::Motion(Shape::from_word(shape)?, Motion::from_word(value)?)),
            _ => None,
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.words().join(" "))
    }
}

impl Facts {
    /// Every true claim, in the order of a description: count, each object's colour and motion,
    /// background.
    pub fn claims(&self) -> Vec<Claim> {
        let count = self.count().map(Claim::Count);
        let object = |object: &Object| {
            [Claim::Colour(object.shape, object.colour), Claim::Motion(object.shape, object.motion)]
        };
        let objects = self.objects.iter().flat_map(object);
        count.into_iter().chain(objects).chain([Claim::Background(self.background)]).collect()
    }
}

/// The claims as one text: sentences with a space between them.
pub fn text(claims: &[Claim]) -> String {
    claims.iter().map(Claim::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Object;

    fn facts() -> Facts {
        let bar = Object { shape: Shape::Bar, colour: Colour::Red, motion: Motion::Left };
        Facts { objects: vec![bar], background: Background::Striped }
    }

    #[test]
    fn every_claim_reads_back_and_has_three_words() {
        for claim in Claim::all() {
            let sentence = claim.to_string();
            let stem = sentence.strip_suffix('.').unwrap();
            assert_eq!(Claim::parse(stem), Some(claim));
            assert_eq!(stem.split(' ').count(), 3, "{sentence}");
            assert!(claim.topic().claims().contains(&claim));
        }
    }

    #[test]
    fn a_topic_has_exactly_one_true_claim_where_its_subject_occurs() {
        let facts = facts();
        for (topic, expected) in [
            (Topic::Colour(Shape::Bar), 1),
            (Topic::Motion(Shape::Bar), 1),
            (Topic::Count, 1),
            (Topic::Background, 1),
            (Topic::Colour(Shape::Ring), 0),
        ] {
            let held = topic.claims().iter().filter(|claim| claim.holds(&facts)).count();
            assert_eq!(held, expected, "{topic:?}");
        }
    }

    #[test]
    fn a_description_states_every_fact_in_order() {
        assert_eq!(
            text(&facts().claims()),
            "count is one. bar is red. bar moves left. background is striped."
        );
    }

    #[test]
    fn case_and_articles_are_forgiven_and_nothing_else() {
        assert_eq!(Claim::parse("The Bar is RED"), Some(Claim::Colour(Shape::Bar, Colour::Red)));
        for no_claim in
            ["", "bar", "bar is", "bar is left", "bar moves red", "bar is not red", "red is bar"]
        {
            assert_eq!(Claim::parse(no_claim), None, "{no_claim}");
        }
    }
}
