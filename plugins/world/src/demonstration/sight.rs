//! What of a clip a look shows, and what is known of it after several.

use std::collections::BTreeSet;

use rand::Rng;
use rand_chacha::ChaCha12Rng;

use crate::attributes::{Count, Shape};
use crate::claim::{Claim, Topic};
use crate::clip::{self, Clip};

/// Most looks whose sum is a previous description, or a judge's context.
const MOST_LOOKS: u32 = 3;

/// A clip as demonstrations see it.
pub(super) struct Sight<'a> {
    /// The clip.
    pub(super) clip: &'a Clip,
    /// Number of pictures of a look; 0 where one look shows all facts.
    pub(super) stills: u32,
}

impl Sight<'_> {
    /// The true claims that the clip's own pictures show.
    pub(super) fn shown(&self) -> Vec<Claim> {
        match self.stills {
            0 => self.clip.facts.claims(),
            _ => self.clip.shown(&self.clip.stills),
        }
    }

    /// The true claims that one to three other looks show together.
    pub(super) fn known(&self, rng: &mut ChaCha12Rng) -> Vec<Claim> {
        if self.stills == 0 {
            return self.clip.facts.claims();
        }
        let count = rng.random_range(1..=MOST_LOOKS);
        let claims: Vec<_> =
            (0..count).flat_map(|_| self.clip.shown(&clip::look(rng, self.stills))).collect();
        in_order(&claims)
    }
}

/// A description that says what is told of a look, and keeps of the previous one what this look does not show: neither
/// confirms nor refutes.
pub(super) fn refined(told: &[Claim], previous: &[Claim], shown: &[Claim]) -> Vec<Claim> {
    let topics: BTreeSet<Topic> = shown.iter().map(|claim| claim.topic()).collect();
    let kept = previous.iter().filter(|claim| !topics.contains(&claim.topic()));
    in_order(&told.iter().chain(kept).copied().collect::<Vec<_>>())
}

/// The claims in the order of a description, one for each topic, with the number of the objects that they name.
fn in_order(claims: &[Claim]) -> Vec<Claim> {
    let about = |topic: Topic| claims.iter().copied().find(|claim| claim.topic() == topic);
    let objects: Vec<Vec<Claim>> = Shape::ALL
        .iter()
        .map(|shape| [Topic::Colour(*shape), Topic::Motion(*shape)].into_iter().filter_map(about).collect())
        .filter(|claims: &Vec<Claim>| !claims.is_empty())
        .collect();
    let count = Count::of(objects.len()).map(Claim::Count);
    count.into_iter().chain(objects.into_iter().flatten()).chain(about(Topic::Background)).collect()
}

#[cfg(test)]
mod tests {
    use isr_api::Streams;

    use super::*;
    use crate::claim::text;
    use crate::clip::Split;
    use crate::config::WorldConfig;

    fn world() -> WorldConfig {
        WorldConfig { presence: [0.15, 0.4], warmstart_stills: 4, ..WorldConfig::default() }
    }

    #[test]
    fn a_look_shows_part_and_several_show_more() {
        let config = world();
        let mut shares = [0.0; 2];
        for index in 0..2000 {
            let clip = Clip::generate(&config, Split::WarmStart, index);
            let sight = Sight { clip: &clip, stills: 4 };
            let mut rng = Streams::new(0).rng(0, "test", &index.to_string());
            let all = clip.facts.claims();
            let share = |claims: &[Claim]| {
                let told = claims.iter().filter(|claim| !matches!(claim, Claim::Count(_)));
                assert!(told.clone().all(|claim| claim.holds(&clip.facts)), "{}", text(claims));
                told.count() as f64 / (all.len() - 1) as f64
            };
            shares[0] += share(&sight.shown()) / 2000.0;
            shares[1] += share(&sight.known(&mut rng)) / 2000.0;
        }
        assert!((0.5..0.8).contains(&shares[0]) && shares[1] > shares[0] + 0.05, "{shares:?}");
    }

    #[test]
    fn what_a_look_does_not_show_is_kept_and_what_it_shows_is_corrected() {
        let claims =
            |words: &str| words.split('.').filter_map(|it| Claim::parse(it.trim())).collect::<Vec<_>>();
        let shown = claims("count is one. bar is red. background is dark");
        let previous =
            claims("count is one. ring is blue. ring moves up. bar is green. background is light");
        assert_eq!(
            text(&refined(&shown, &previous, &shown)),
            "count is two. bar is red. ring is blue. ring moves up. background is dark."
        );
    }

    #[test]
    fn where_all_is_there_throughout_a_look_shows_all() {
        let config = WorldConfig { warmstart_stills: 4, ..WorldConfig::default() };
        let clip = Clip::generate(&config, Split::WarmStart, 3);
        assert_eq!(Sight { clip: &clip, stills: 4 }.shown(), clip.facts.claims());
    }
}
