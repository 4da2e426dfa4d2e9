//! Demonstrations for the supervised warm start of a base model.

mod config;
mod pairs;
mod sight;
mod source;

use isr_api::{Demonstration, Streams};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha12Rng;

pub use config::{DemonstrationConfig, JUDGE_TEMPLATE, KindWeights, RETROSPECT_TEMPLATE};
pub use source::WorldDemonstrationsConfig;

use pairs::Speaker;
use sight::Sight;

use crate::claim::{Claim, text};
use crate::clip::{Clip, Split};
use crate::config::WorldConfig;
use crate::error::WorldError;
use crate::facts::{Facts, Object};
use crate::mistakes::{Narrator, happens};
use crate::question::Question;

/// What a demonstration teaches; [`KindWeights`] says more of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// To answer a question.
    Answer,
    /// To describe a video.
    Describe,
    /// To improve on a previous description.
    Refine,
    /// To compare two answers, by video and noisy context.
    JudgeContext,
    /// To compare two answers, by video alone.
    JudgeBlind,
    /// To compare two answers, by exact context alone.
    JudgeText,
    /// To answer from an exact context.
    Read,
    /// To list what is seen.
    List,
}

impl Kind {
    /// The name of its weight.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Describe => "describe",
            Self::Refine => "refine",
            Self::JudgeContext => "judge_context",
            Self::JudgeBlind => "judge_blind",
            Self::JudgeText => "judge_text",
            Self::Read => "read",
            Self::List => "list",
        }
    }

    /// Whether the video is shown.
    pub fn has_video(self) -> bool {
        !matches!(self, Self::JudgeText | Self::Read)
    }
}

/// An endless stream of demonstrations: the i-th depends on world, config and i alone.
#[derive(Debug)]
pub struct Demonstrator {
    world: WorldConfig,
    config: DemonstrationConfig,
    templates: Environment<'static>,
}

/// The replies for the answer shown first and the one shown second.
const CHOICES: [&str; 2] = ["a", "b"];

/// The variables of all templates.
#[derive(Default)]
struct Variables<'a> {
    context: Option<&'a str>,
    previous: Option<&'a str>,
    question: Option<&'a str>,
    first: Option<&'a str>,
    second: Option<&'a str>,
}

impl Demonstrator {
    /// Checks the config, and renders each template once. Renders no clip.
    pub fn new(world: &WorldConfig, config: &DemonstrationConfig) -> Result<Self, WorldError> {
        config.check().map_err(WorldError::Config)?;
        if world.warmstart_clips == 0 {
            let reason = "warmstart_clips is 0; demonstrations need at least one clip";
            return Err(WorldError::Config(reason.to_owned()));
        }
        if world.presence[0] < 1.0 && world.warmstart_stills == 0 {
            let reason = "presence is below 1 and warmstart_stills is 0; set it to the number of frames that the video \
                          reader takes, so that descriptions say what these show";
            return Err(WorldError::Config(reason.to_owned()));
        }
        let made = Self { world: world.clone(), config: config.clone(), templates: environment() };
        let some = Some("x");
        let all = Variables { context: some, previous: some, question: some, first: some, second: some };
        for name in ["retrospect_template", "judge_template", "critique_template", "read_template"] {
            made.render(name, &all)?;
        }
        Ok(made)
    }

    /// The demonstration's kind.
    pub fn kind(&self, index: u64) -> Kind {
        self.pick_kind(&mut self.rng("kind", index))
    }

    /// Demonstration `index`.
    pub fn get(&self, index: u64) -> Result<Demonstration, WorldError> {
        self.of_kind(self.kind(index), index)
    }

    fn of_kind(&self, kind: Kind, index: u64) -> Result<Demonstration, WorldError> {
        let mut rng = self.rng("demonstration", index);
        let number = rng.random_range(0..self.world.warmstart_clips);
        let clip = Clip::generate(&self.world, Split::WarmStart, number);
        let (prompt, answer) = self.compose(&mut rng, kind, &clip)?;
        Ok(Demonstration {
            id: format!("{}-{index:06}", kind.name()),
            video: kind.has_video().then(|| self.world.dir.join(clip.file())),
            turns: Vec::new(),
            prompt,
            answer,
        })
    }

    /// Texts from which a tokenizer learns every word: all questions, all claims, and 250 prompts and
    /// answers of each kind, whatever its weight, since later stages go on with the tokenizer.
    pub fn vocabulary_corpus(&self) -> Result<Vec<String>, WorldError> {
        let mut corpus: Vec<_> = Question::all().into_iter().flat_map(Question::wordings).collect();
        corpus.extend(Claim::all().iter().map(Claim::to_string));
        for (kind, _) in self.config.weights.by_kind() {
            for index in 0..250 {
                let Demonstration { prompt, answer, .. } = self.of_kind(kind, index)?;
                corpus.extend([prompt, answer]);
            }
        }
        Ok(corpus)
    }

    fn rng(&self, stream: &str, index: u64) -> ChaCha12Rng {
        Streams::new(self.config.seed).rng(0, &format!("world/{stream}"), &index.to_string())
    }

    fn pick_kind(&self, rng: &mut ChaCha12Rng) -> Kind {
        let weights = self.config.weights.by_kind();
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut left = rng.random::<f64>() * total;
        let mut last = Kind::Answer;
        for (kind, weight) in weights.iter().filter(|(_, weight)| *weight > 0.0) {
            last = *kind;
            if left < *weight {
                break;
            }
            left -= weight;
        }
        last
    }

    /// Prompt and answer.
    fn compose(
        &self,
        rng: &mut ChaCha12Rng,
        kind: Kind,
        clip: &Clip,
    ) -> Result<(String, String), WorldError> {
        let (config, facts) = (&self.config, &clip.facts);
        let narrator = Narrator { facts, max_objects: self.world.max_objects };
        let sight = Sight { clip, stills: self.world.warmstart_stills };
        let shown = sight.shown();
        let speaker = Speaker { config, narrator, shown: &shown };
        let question = Question::draw(rng, facts).first().copied().unwrap_or(Question::Describe);
        let wording = question.wordings().choose(rng).cloned().unwrap_or_default();
        match kind {
            Kind::Answer => Ok((wording, text(&speaker.answer(rng, question)))),
            Kind::Describe => self.describe(rng, &speaker, None),
            Kind::Refine => {
                let known = sight.known(rng);
                let previous =
                    narrator.telling(rng, &known, config.previous_noise, config.previous_omission);
                self.describe(rng, &speaker, Some(&previous))
            }
            Kind::JudgeContext => {
                let known = sight.known(rng);
                let context =
                    narrator.telling(rng, &known, config.context_noise, config.description_omission);
                self.compare(rng, &speaker, question, &wording, Some(&text(&context)))
            }
            Kind::JudgeBlind => self.compare(rng, &speaker, question, &wording, None),
            Kind::JudgeText => {
                self.compare(rng, &speaker, question, &wording, Some(&text(&facts.claims())))
            }
            Kind::Read => self.read(narrator, question, &wording),
            Kind::List => Ok(("list what is seen.".to_owned(), list(rng, facts, &shown))),
        }
    }

    fn describe(
        &self,
        rng: &mut ChaCha12Rng,
        speaker: &Speaker,
        previous: Option<&[Claim]>,
    ) -> Result<(String, String), WorldError> {
        let (noise, omission) = (self.config.description_noise, self.config.description_omission);
        let mut claims = speaker.narrator.telling(rng, speaker.shown, noise, omission);
        if let Some(previous) = previous.filter(|_| self.world.warmstart_stills > 0) {
            claims = sight::refined(&claims, previous, speaker.shown);
        }
        let previous = previous.map(text);
        let variables = Variables { previous: previous.as_deref(), ..Variables::default() };
        Ok((self.render("retrospect_template", &variables)?, text(&claims)))
    }

    fn read(
        &self,
        narrator: Narrator,
        question: Question,
        wording: &str,
    ) -> Result<(String, String), WorldError> {
        let context = text(&narrator.facts.claims());
        let variables =
            Variables { context: Some(&context), question: Some(wording), ..Variables::default() };
        Ok((self.render("read_template", &variables)?, text(&question.targets(narrator.facts))))
    }

    fn compare(
        &self,
        rng: &mut ChaCha12Rng,
        speaker: &Speaker,
        question: Question,
        wording: &str,
        context: Option<&str>,
    ) -> Result<(String, String), WorldError> {
        let pair = speaker.pair(rng, question);
        let better_wins = speaker.prefers_better(rng, &pair);
        let better_first = happens(rng, 0.5);
        let (better, worse) = (text(&pair.better), text(&pair.worse));
        let (first, second) = if better_first { (&better, &worse) } else { (&worse, &better) };
        let variables = Variables {
            context,
            question: Some(wording),
            first: Some(first),
            second: Some(second),
            ..Variables::default()
        };
        let choice = CHOICES[usize::from(better_wins != better_first)];
        if !happens(rng, self.config.critique) {
            return Ok((self.render("judge_template", &variables)?, choice.to_owned()));
        }
        let (first, second) =
            if better_first { (&pair.better, &pair.worse) } else { (&pair.worse, &pair.better) };
        let [a, b] = [first, second].map(|claims| checked(claims, speaker.narrator.facts));
        let answer = format!("a: {a} b: {b} {choice} is better");
        Ok((self.render("critique_template", &variables)?, answer))
    }

    fn render(&self, name: &'static str, variables: &Variables) -> Result<String, WorldError> {
        let source = match name {
            "retrospect_template" => &self.config.retrospect_template,
            "judge_template" => &self.config.judge_template,
            "critique_template" => &self.config.critique_template,
            _ => &self.config.read_template,
        };
        let Variables { context, previous, question, first, second } = *variables;
        let values = context! { context, previous, question, first, second, choices => CHOICES };
        let rendered = self.templates.render_named_str(name, source, values);
        rendered.map_err(|error| WorldError::Template { name, reason: format!("{error:#}") })
    }
}

/// What is wrong with each claim: its subject and verb, what is true of them, what is said, and `yes` or `no`.
/// So each word is found by the two before it, and what decides stands just before the verdict.
fn checked(claims: &[Claim], facts: &Facts) -> String {
    let truths = facts.claims();
    let check = |claim: &Claim| {
        let [subject, verb, said] = claim.words();
        let truth = truths.iter().find(|truth| truth.topic() == claim.topic());
        let truth = truth.map_or("absent", |truth| truth.words()[2]);
        format!("{subject} {verb} {truth} {said} {}", if claim.holds(facts) { "yes" } else { "no" })
    };
    claims.iter().map(check).collect::<Vec<_>>().join(" ")
}

/// Shape and colour of each object, twice, so that each asks for the other, and the background: what one
/// frame shows.
fn list(rng: &mut ChaCha12Rng, facts: &Facts, shown: &[Claim]) -> String {
    let seen = |it: &&Object| shown.contains(&Claim::Colour(it.shape, it.colour));
    let object = |it: &Object| [it.shape.word(), it.colour.word()].repeat(2);
    let mut parts: Vec<_> = facts.objects.iter().filter(seen).map(object).collect();
    parts.push(["background", facts.background.word()].repeat(2));
    parts.shuffle(rng);
    parts.concat().join(" ")
}

/// The settings under which the method's own templates are rendered, so that a prompt is the same here
/// and there to the byte.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment
}

#[cfg(test)]
mod tests;
