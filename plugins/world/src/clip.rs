//! A clip before it is rendered: its facts, and the layout that carries them.

use isr_api::Streams;
use rand::Rng;
use rand::seq::{IndexedRandom, index};
use rand_chacha::ChaCha12Rng;

use crate::attributes::{Background, Colour, Count, Motion, Shape};
use crate::claim::Claim;
use crate::config::WorldConfig;
use crate::facts::{Facts, Object};

/// What clips are for. Each split has random streams of its own, so no two share a clip, and none
/// changes with another's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Split {
    /// What the loop learns from.
    Training,
    /// Held out.
    Evaluation,
    /// Held out and out of domain: other shades, speeds and patterns.
    Shifted,
    /// For the supervised warm start.
    WarmStart,
}

impl Split {
    /// All splits.
    pub const ALL: [Self; 4] = [Self::Training, Self::Evaluation, Self::Shifted, Self::WarmStart];

    /// The prefix of its clips' names.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Training => "train",
            Self::Evaluation => "evaluation",
            Self::Shifted => "shifted",
            Self::WarmStart => "warmstart",
        }
    }

    /// How many clips the config asks for.
    pub fn clips(self, config: &WorldConfig) -> u32 {
        match self {
            Self::Training => config.training_clips,
            Self::Evaluation => config.evaluation_clips,
            Self::Shifted => config.shifted_clips,
            Self::WarmStart => config.warmstart_clips,
        }
    }
}

/// Where an object is, in pixels, its size and its brightness. Nothing of it can be asked about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// Half the nominal size; a shape may be wider or narrower, see [`half_size`].
    pub radius: f64,
    /// Centre in the first frame, x to the right and y downwards.
    pub start: [f64; 2],
    /// Way to the centre in the last frame.
    pub travel: [f64; 2],
    /// Factor on the colour's brightness.
    pub shade: f64,
    /// When it enters and when it leaves, as shares of the clip's duration; it makes its whole way in between.
    pub presence: [f64; 2],
}

impl Placement {
    /// The centre at `time`, 0 at the first frame and 1 at the last; `None` while the object is absent.
    pub fn centre(&self, time: f64) -> Option<[f64; 2]> {
        let share = self.progress(time)?;
        Some([self.start[0] + share * self.travel[0], self.start[1] + share * self.travel[1]])
    }

    /// The share of its way that the object has made at `time`; `None` while it is absent.
    pub fn progress(&self, time: f64) -> Option<f64> {
        let [enters, leaves] = self.presence;
        let share = if enters == 0.0 && leaves == 1.0 { time } else { (time - enters) / (leaves - enters) };
        (0.0..=1.0).contains(&share).then_some(share)
    }
}

/// A clip: deterministic from the world's seed, its split and its index.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// What it is for.
    pub split: Split,
    /// Its number within the split.
    pub index: u32,
    /// What is true of it.
    pub facts: Facts,
    /// Where each of `facts.objects` is.
    pub placements: Vec<Placement>,
    /// Offset of the background's pattern in pixels.
    pub phase: [u32; 2],
    /// The times of its pictures where it shows stills instead of playing evenly; else empty.
    pub stills: Vec<f64>,
    /// Seed of the pixel noise.
    pub noise_seed: u64,
}

/// Extent of a shape of radius 1 from its centre, across and down.
pub fn half_size(shape: Shape) -> [f64; 2] {
    match shape {
        Shape::Bar => [1.25, 0.42],
        Shape::Pole => [0.42, 1.25],
        _ => [1.0, 1.0],
    }
}

/// Range of an object's way, as shares of the frame's size, and that of shifted clips.
const PACE: [f64; 2] = [0.35, 0.5];
const SHIFTED_PACE: [f64; 2] = [0.2, 0.3];
/// Least share of an object's way between two pictures of it that show where it moves.
const EVIDENT: f64 = 0.2;
/// Attempts at a layout before the objects are made smaller.
const ATTEMPTS: u32 = 40;
/// Steps by which they are made smaller, each to nine tenths. Three objects of a third of the first
/// size fit any frame, so the last step is never reached.
const SHRINKS: u32 = 12;
/// Pixels between two objects, and between an object and the edge, as a share of the frame's size.
const MARGIN: f64 = 0.03;

impl Clip {
    /// Makes clip `index` of `split`.
    pub fn generate(config: &WorldConfig, split: Split, index: u32) -> Self {
        let subject = format!("{}-{index}", split.prefix());
        let mut rng = Streams::new(config.seed).rng(0, "world/clip", &subject);
        let facts = draw_facts(&mut rng, config.max_objects as usize);
        let presences = draw_presences(config, &subject, facts.objects.len());
        let pace = if split == Split::Shifted { SHIFTED_PACE } else { PACE };
        let placements = place(&mut rng, &facts, &presences, f64::from(config.size), pace);
        let phase = [rng.random_range(0..config.size), rng.random_range(0..config.size)];
        let mut stills = Vec::new();
        if split == Split::WarmStart && config.warmstart_stills > 0 {
            stills = look(
                &mut Streams::new(config.seed).rng(0, "world/stills", &subject),
                config.warmstart_stills,
            );
        }
        Self { split, index, facts, placements, phase, stills, noise_seed: rng.random() }
    }

    /// The time of frame `index` of `frames`, 0 at the clip's start and 1 at its end.
    pub(crate) fn time(&self, index: u32, frames: u32) -> f64 {
        match self.stills.len() {
            0 => f64::from(index) / f64::from(frames - 1),
            count => self.stills[index as usize * count / frames as usize],
        }
    }

    /// The true claims that pictures at these times show: the number of objects seen, the colour of each, its motion
    /// where two pictures of it lie a fifth of its way apart, and the background. The count may be too low.
    pub(crate) fn shown(&self, times: &[f64]) -> Vec<Claim> {
        let seen = |placement: &Placement| -> Vec<f64> {
            times.iter().filter_map(|time| placement.progress(*time)).collect()
        };
        let mut claims = Vec::new();
        let mut count = 0;
        for (object, placement) in self.facts.objects.iter().zip(&self.placements) {
            let seen = seen(placement);
            let (Some(first), Some(last)) = (seen.first(), seen.last()) else { continue };
            count += 1;
            claims.push(Claim::Colour(object.shape, object.colour));
            if last - first >= EVIDENT {
                claims.push(Claim::Motion(object.shape, object.motion));
            }
        }
        let count = Count::of(count).map(Claim::Count);
        count.into_iter().chain(claims).chain([Claim::Background(self.facts.background)]).collect()
    }

    /// The clip's name, as in `train-000012`.
    pub fn name(&self) -> String {
        format!("{}-{:06}", self.split.prefix(), self.index)
    }

    /// Its file, relative to the world's folder.
    pub fn file(&self) -> String {
        format!("videos/{}.mp4", self.name())
    }
}

fn draw<T: Copy>(rng: &mut ChaCha12Rng, values: &[T], fallback: T) -> T {
    values.choose(rng).copied().unwrap_or(fallback)
}

/// Uniform and independent attributes, so that nothing can be guessed from anything else.
fn draw_facts(rng: &mut ChaCha12Rng, max_objects: usize) -> Facts {
    let count = rng.random_range(1..=max_objects);
    let mut shapes: Vec<_> =
        index::sample(rng, Shape::ALL.len(), count).iter().map(|i| Shape::ALL[i]).collect();
    shapes.sort_unstable();
    let object = |shape| Object {
        shape,
        colour: draw(rng, Colour::ALL, Colour::Red),
        motion: draw(rng, Motion::ALL, Motion::Nowhere),
    };
    let objects = shapes.into_iter().map(object).collect();
    Facts { objects, background: draw(rng, Background::ALL, Background::Dark) }
}

/// When each object enters and leaves. Of a stream of its own, so that other draws do not depend on it.
fn draw_presences(config: &WorldConfig, subject: &str, objects: usize) -> Vec<[f64; 2]> {
    let [least, most] = config.presence;
    if least >= 1.0 {
        return vec![[0.0, 1.0]; objects];
    }
    let mut rng = Streams::new(config.seed).rng(0, "world/presence", subject);
    let mut presence = || {
        let share = least + rng.random::<f64>() * (most - least);
        let enters = rng.random::<f64>() * (1.0 - share);
        [enters, enters + share]
    };
    (0..objects).map(|_| presence()).collect()
}

/// The times of a look: one in each of `count` equal parts of the clip.
pub(crate) fn look(rng: &mut ChaCha12Rng, count: u32) -> Vec<f64> {
    (0..count).map(|part| (f64::from(part) + rng.random::<f64>()) / f64::from(count)).collect()
}

/// Draws layouts until no two objects touch at any time; from time to time with smaller objects.
fn place(
    rng: &mut ChaCha12Rng,
    facts: &Facts,
    presences: &[[f64; 2]],
    size: f64,
    pace: [f64; 2],
) -> Vec<Placement> {
    let mut placements = Vec::new();
    let mut scale = 1.0;
    for _ in 0..SHRINKS {
        for _ in 0..ATTEMPTS {
            let objects = facts.objects.iter().zip(presences);
            placements = objects
                .map(|(object, presence)| place_one(rng, object, *presence, size, scale, pace))
                .collect();
            if !touching(facts, &placements, size) {
                return placements;
            }
        }
        scale *= 0.9;
    }
    placements
}

fn place_one(
    rng: &mut ChaCha12Rng,
    object: &Object,
    presence: [f64; 2],
    size: f64,
    scale: f64,
    pace: [f64; 2],
) -> Placement {
    let radius = scale * size * rng.random_range(0.1..0.155);
    let half = half_size(object.shape).map(|half| half * radius);
    let way = size * rng.random_range(pace[0]..pace[1]);
    let travel = match object.motion {
        Motion::Left => [-way, 0.0],
        Motion::Right => [way, 0.0],
        Motion::Up => [0.0, -way],
        Motion::Down => [0.0, way],
        Motion::Nowhere => [0.0, 0.0],
    };
    let mut coordinate = |axis: usize| {
        let edge = half[axis] + MARGIN * size;
        let (low, high) = (edge - travel[axis].min(0.0), size - edge - travel[axis].max(0.0));
        low + rng.random::<f64>() * (high - low)
    };
    let start = [coordinate(0), coordinate(1)];
    Placement { radius, start, travel, shade: rng.random_range(0.88..1.0), presence }
}

/// True where two bounding boxes come closer than the margin at one of nine times; of objects that come and go, at one
/// of 65.
fn touching(facts: &Facts, placements: &[Placement], size: f64) -> bool {
    let close = |a: usize, b: usize| {
        let halves = [half_size(facts.objects[a].shape), half_size(facts.objects[b].shape)];
        let steps = if placements.iter().all(|it| it.presence == [0.0, 1.0]) { 8 } else { 64 };
        (0..=steps).any(|step| {
            let time = f64::from(step) / f64::from(steps);
            let (Some(at), Some(bt)) = (placements[a].centre(time), placements[b].centre(time)) else {
                return false;
            };
            (0..2).all(|axis| {
                let reach = halves[0][axis] * placements[a].radius + halves[1][axis] * placements[b].radius;
                (at[axis] - bt[axis]).abs() < reach + MARGIN * size
            })
        })
    };
    (0..placements.len()).any(|a| (0..a).any(|b| close(a, b)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::claim::text;

    fn three() -> WorldConfig {
        WorldConfig { max_objects: 3, ..WorldConfig::default() }
    }

    #[test]
    fn the_first_clips_are_pinned() {
        let config = WorldConfig::default();
        let facts: Vec<_> = Split::ALL
            .iter()
            .flat_map(|split| (0..2).map(|index| Clip::generate(&config, *split, index)))
            .map(|clip| format!("{}: {}", clip.name(), text(&clip.facts.claims())))
            .collect();
        insta::assert_snapshot!(facts.join("\n"));
    }

    #[test]
    fn objects_stay_inside_and_never_touch() {
        let config = three();
        let size = f64::from(config.size);
        for index in 0..4000 {
            let clip = Clip::generate(&config, Split::Training, index);
            assert!(!touching(&clip.facts, &clip.placements, size), "{}", clip.name());
            for (object, placement) in clip.facts.objects.iter().zip(&clip.placements) {
                for time in [0.0, 1.0] {
                    let centre = placement.centre(time).unwrap();
                    let half = half_size(object.shape);
                    for axis in 0..2 {
                        let reach = half[axis] * placement.radius;
                        assert!(
                            centre[axis] - reach > 0.0 && centre[axis] + reach < size,
                            "{}",
                            clip.name()
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn objects_that_come_and_go_stay_inside_and_never_touch_while_both_are_there() {
        let config = WorldConfig { presence: [0.15, 0.4], ..three() };
        let size = f64::from(config.size);
        let mut mean = 0.0;
        for index in 0..1000 {
            let clip = Clip::generate(&config, Split::Training, index);
            assert!(!touching(&clip.facts, &clip.placements, size), "{}", clip.name());
            let whole = Clip::generate(&three(), Split::Training, index);
            assert_eq!(clip.facts, whole.facts, "presence changes no fact");
            let mut share = 0.0;
            for placement in &clip.placements {
                let [enters, leaves] = placement.presence;
                assert!(enters >= 0.0 && leaves <= 1.0 && (0.15..=0.4001).contains(&(leaves - enters)));
                assert!(
                    placement.centre(enters - 0.01).is_none() && placement.centre(leaves + 0.01).is_none()
                );
                share += (leaves - enters) / clip.placements.len() as f64;
            }
            mean += share / 1000.0;
        }
        assert!((mean - 0.275).abs() < 0.01, "{mean}");
    }

    #[test]
    fn warm_start_clips_of_stills_show_one_picture_of_each_part() {
        let config = WorldConfig { warmstart_stills: 4, ..WorldConfig::default() };
        let clip = Clip::generate(&config, Split::WarmStart, 5);
        let times: Vec<_> = (0..24).map(|index| clip.time(index, 24)).collect();
        for (part, frames) in times.chunks(6).enumerate() {
            assert!(frames.iter().all(|time| *time == frames[0]));
            assert!((part as f64 / 4.0..(part + 1) as f64 / 4.0).contains(&frames[0]));
        }
        assert!(Clip::generate(&config, Split::Training, 5).stills.is_empty());
    }

    #[test]
    fn a_look_shows_colours_of_what_is_there_and_motions_of_what_moved_between_two_pictures() {
        let mut clip = Clip::generate(&WorldConfig::default(), Split::Training, 0);
        clip.placements[0].presence = [0.5, 0.75];
        let shown = |times: &[f64]| text(&clip.shown(times));
        assert_eq!(shown(&[0.1, 0.4, 0.8]), "background is light.");
        assert_eq!(shown(&[0.1, 0.6]), "count is one. square is red. background is light.");
        assert_eq!(shown(&[0.6, 0.62]), shown(&[0.6]), "too close to see a motion");
        assert_eq!(shown(&[0.55, 0.7]), text(&clip.facts.claims()));
    }

    #[test]
    fn attributes_are_uniform_and_independent_of_each_other() {
        let config = three();
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let (mut objects, clips) = (0, 6000);
        for index in 0..clips {
            let facts = Clip::generate(&config, Split::WarmStart, index).facts;
            objects += facts.objects.len() as u32;
            *counts.entry(format!("n{}", facts.objects.len())).or_default() += 1;
            *counts.entry(facts.background.word().to_owned()).or_default() += 1;
            for object in &facts.objects {
                for word in [object.shape.word(), object.colour.word(), object.motion.word()] {
                    *counts.entry(word.to_owned()).or_default() += 1;
                }
                *counts.entry(format!("{} {}", object.shape.word(), object.colour.word())).or_default() +=
                    1;
            }
        }
        let share = |key: &str, of: u32| f64::from(counts[key]) / f64::from(of);
        for shape in Shape::ALL {
            assert!((share(shape.word(), objects) - 1.0 / 6.0).abs() < 0.015);
            for colour in Colour::ALL {
                let pair = share(&format!("{} {}", shape.word(), colour.word()), objects);
                assert!((pair - 1.0 / 36.0).abs() < 0.008, "{pair}");
            }
        }
        assert!(Motion::ALL.iter().all(|motion| (share(motion.word(), objects) - 0.2).abs() < 0.015));
        assert!(Background::ALL.iter().all(|value| (share(value.word(), clips) - 0.25).abs() < 0.02));
        assert!(["n1", "n2", "n3"].iter().all(|key| (share(key, clips) - 1.0 / 3.0).abs() < 0.02));
    }

    #[test]
    fn splits_share_no_clip_and_do_not_depend_on_their_sizes() {
        let config = WorldConfig::default();
        let other = WorldConfig { training_clips: 3, dir: "elsewhere".into(), ..config.clone() };
        let mut seeds = std::collections::BTreeSet::new();
        for split in Split::ALL {
            for index in 0..500 {
                let clip = Clip::generate(&config, split, index);
                assert_eq!(clip, Clip::generate(&other, split, index));
                assert!(seeds.insert(clip.noise_seed), "{} is a second time", clip.name());
            }
        }
    }
}
