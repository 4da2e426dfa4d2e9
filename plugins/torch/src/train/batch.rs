//! From training examples to log-probs of answer tokens, and from the objective's gradient back.

use isr_api::{Granularity, Prompt, Requirements, Target, TrainExample, VideoInput, View, ViewLogProbs};
use tch::Tensor;

use super::head::AnswerHead;
use crate::chat::{Chat, Rendered};
use crate::error::{Result, TorchError};
use crate::model::decoder::{Attend, Tree};
use crate::model::positions::Positions;
use crate::model::recompute::Recompute;
use crate::model::{Sequence, Slot, VideoLmm};
use crate::visual;

/// One example as slots: each prompt once, an answer a required view.
pub(super) struct Prepared {
    trunks: Vec<Trunk>,
    /// Where the answer of each view is: which trunk, and which of its answers.
    places: Vec<(usize, usize)>,
}

/// A prompt and the answers that follow it.
struct Trunk {
    prompt: Vec<Slot>,
    positions: Positions,
    scenes: Vec<VideoInput>,
    answers: Vec<Answer>,
}

struct Answer {
    tokens: Vec<u32>,
    reference: Vec<f64>,
}

impl Prepared {
    pub(super) fn new(
        model: &VideoLmm,
        chat: &Chat,
        example: &TrainExample,
        needs: &Requirements,
    ) -> Result<Self> {
        let mut trunks: Vec<(&Prompt, Rendered, Vec<Answer>)> = Vec::new();
        let mut places = Vec::with_capacity(needs.views.len());
        for view in &needs.views {
            let found = example.view(*view);
            let (prompt, target) = found.map_err(|error| TorchError::Objective(error.to_string()))?;
            let trunk = match trunks.iter().position(|(known, ..)| std::ptr::eq(*known, prompt)) {
                Some(at) => at,
                None => {
                    let rendered = chat.render(prompt, |frames| model.config.layout(frames))?;
                    trunks.push((prompt, rendered, Vec::new()));
                    trunks.len() - 1
                }
            };
            let (_, rendered, answers) = &mut trunks[trunk];
            let tokens = chat.continuation(rendered, &target.continuation)?;
            let reference = reference(target, tokens.len(), needs)?;
            let (length, limit) =
                (rendered.extent(tokens.len()), model.config.text.max_position_embeddings);
            if tokens.is_empty() || length > limit {
                let text = format!(
                    "a training sequence of {length} tokens; it must have an answer and fit {limit}"
                );
                return Err(TorchError::Prompt(text));
            }
            places.push((trunk, answers.len()));
            answers.push(Answer { tokens, reference });
        }
        let trunk = |(_, rendered, answers): (&Prompt, Rendered, Vec<Answer>)| Trunk {
            prompt: rendered.slots,
            positions: rendered.positions,
            scenes: rendered.scenes,
            answers,
        };
        Ok(Self { trunks: trunks.into_iter().map(trunk).collect(), places })
    }

    /// Tokens that are read for it.
    pub(super) fn length(&self) -> usize {
        self.trunks.iter().map(Trunk::length).sum()
    }

    /// The answer of a view, by the view's index.
    fn answer(&self, view: usize) -> &Answer {
        let (trunk, answer) = self.places[view];
        &self.trunks[trunk].answers[answer]
    }

    /// From which of the hidden states that come out for the example the tokens of a view's answer are
    /// predicted.
    fn predicting(&self, view: usize) -> impl Iterator<Item = usize> {
        let (trunk, answer) = self.places[view];
        let before: usize = self.trunks[..trunk].iter().map(Trunk::asking).sum();
        self.trunks[trunk].predicting(answer).map(move |at| before + at)
    }
}

impl Trunk {
    /// The prompt, and behind it each answer without its last token: what is read to predict the answers.
    fn sequence<'a>(&'a self, features: Option<&'a Tensor>) -> Sequence<'a> {
        let branches =
            self.answers.iter().map(|answer| &answer.tokens[..answer.tokens.len() - 1]).collect();
        let (slots, positions) = (self.prompt.as_slice(), &self.positions);
        Sequence { slots, start: 0, positions, features, branches }
    }

    /// Tokens that [`sequence`](Self::sequence) has.
    fn length(&self) -> usize {
        self.prompt.len() + self.answers.iter().map(|answer| answer.tokens.len() - 1).sum::<usize>()
    }

    /// Hidden states that come out for it: behind the prompt, and behind each answer's tokens.
    fn asking(&self) -> usize {
        1 + self.length() - self.prompt.len()
    }

    /// Which of those the tokens of answer `index` are predicted from.
    fn predicting(&self, index: usize) -> impl Iterator<Item = usize> {
        let before = self.answers[..index].iter().map(|answer| answer.tokens.len() - 1).sum::<usize>();
        let behind = 1 + before..before + self.answers[index].tokens.len();
        std::iter::once(0).chain(behind)
    }
}

fn reference(target: &Target, tokens: usize, needs: &Requirements) -> Result<Vec<f64>> {
    if !needs.reference {
        return Ok(Vec::new());
    }
    match &target.reference {
        Some(reference) if reference.len() == tokens => {
            Ok(reference.iter().map(|&value| f64::from(value)).collect())
        }
        Some(reference) => Err(TorchError::Objective(format!(
            "an answer of {tokens} tokens has {} reference log-probs",
            reference.len()
        ))),
        None => Err(TorchError::Objective("the objective needs the reference's log-probs".to_owned())),
    }
}

/// A forward pass over all answers of some examples, and what its backward pass needs.
pub(super) struct Forward<'m> {
    /// Log-probs of every answer token, view by view, example by example.
    pub(super) values: Vec<f64>,
    head: AnswerHead<'m>,
    /// The decoder's layers, where their backward pass is apart.
    layers: Option<Recompute<'m>>,
}

impl Forward<'_> {
    /// Adds to the weights' gradients; `coefficients` are the loss's derivatives by each of `values`.
    pub(super) fn backward(self, coefficients: &[f32]) -> Result<()> {
        self.head.backward(coefficients)?;
        self.layers.map_or(Ok(()), Recompute::backward)
    }
}

/// What lies between the embeddings and the language-model head.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// The decoder's layers.
    Whole,
    /// The same, computed again in the backward pass.
    Recompute,
    /// One look of each answer token at its prompt.
    Glance,
}

/// Examples side by side in one row, without padding; a prompt is read once for all its answers.
pub(super) fn forward<'m>(
    model: &'m VideoLmm,
    examples: &[Prepared],
    needs: &Requirements,
    own_tower: bool,
    way: Way,
) -> Result<Forward<'m>> {
    let all: Vec<&Trunk> = examples.iter().flat_map(|example| &example.trunks).collect();
    let features = trunk_features(model, &all, own_tower)?;
    let sequences: Vec<Sequence<'_>> =
        all.iter().zip(&features).map(|(trunk, features)| trunk.sequence(features.as_ref())).collect();
    let trees: Vec<Tree> = sequences.iter().map(Sequence::tree).collect();
    let inputs = model.read(&sequences)?;
    let (hidden, layers) = match way {
        Way::Recompute => {
            let layers = Recompute::forward(&model.decoder, inputs, trees)?;
            (layers.hidden()?, Some(layers))
        }
        Way::Whole => (model.decoder.forward(&inputs, Attend::Answers(&trees))?, None),
        Way::Glance => (model.decoder.glance(&inputs, &trees)?, None),
    };
    let (index, targets) = predictions(examples, needs.views.len());
    let index = Tensor::f_from_slice(&index)?.f_to_device(model.device)?;
    let predicting = hidden.f_squeeze_dim(0)?.f_index_select(0, &index)?;
    let head = AnswerHead::new(&model.decoder, predicting, &targets)?;
    Ok(Forward { values: head.log_probs()?, head, layers })
}

/// From which hidden state each answer token is predicted, and the tokens, view by view, example by example.
fn predictions(examples: &[Prepared], views: usize) -> (Vec<i64>, Vec<i64>) {
    let (mut index, mut targets) = (Vec::new(), Vec::new());
    for view in 0..views {
        let mut start = 0;
        for example in examples {
            index.extend(example.predicting(view).map(|at| (start + at) as i64));
            targets.extend(example.answer(view).tokens.iter().map(|&id| i64::from(id)));
            start += example.trunks.iter().map(Trunk::asking).sum::<usize>();
        }
    }
    (index, targets)
}

fn trunk_features(model: &VideoLmm, trunks: &[&Trunk], own_tower: bool) -> Result<Vec<Option<Tensor>>> {
    if own_tower {
        let lists: Vec<&[VideoInput]> = trunks.iter().map(|trunk| trunk.scenes.as_slice()).collect();
        return visual::features_together(model, &lists);
    }
    trunks.iter().map(|trunk| visual::features(model, &trunk.scenes, false)).collect()
}

/// Lays token log-probs out as the objective wants them.
pub(super) fn views(examples: &[Prepared], needs: &Requirements, values: &[f64]) -> Vec<ViewLogProbs> {
    let mut rest = values;
    let view = |(index, view): (usize, &View)| {
        let lengths: Vec<usize> =
            examples.iter().map(|example| example.answer(index).tokens.len()).collect();
        let (here, behind) = rest.split_at(lengths.iter().sum());
        rest = behind;
        let reference = examples.iter().flat_map(|example| example.answer(index).reference.iter().copied());
        let reference: Vec<f64> = reference.collect();
        ViewLogProbs {
            view: *view,
            policy: arrange(here, &lengths, needs.granularity),
            reference: if needs.reference {
                arrange(&reference, &lengths, needs.granularity)
            } else {
                Vec::new()
            },
            lengths,
        }
    };
    needs.views.iter().enumerate().map(view).collect()
}

fn arrange(tokens: &[f64], lengths: &[usize], granularity: Granularity) -> Vec<f64> {
    match granularity {
        Granularity::PerToken => tokens.to_vec(),
        Granularity::Summed => {
            let mut rest = tokens;
            let sum = |&length: &usize| {
                let (here, behind) = rest.split_at(length);
                rest = behind;
                here.iter().sum()
            };
            lengths.iter().map(sum).collect()
        }
    }
}

/// The loss's derivative by each token's log-prob, in the order of [`Forward`].
pub(super) fn token_gradients(
    examples: &[Prepared],
    needs: &Requirements,
    gradients: &[Vec<f64>],
) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    if gradients.len() != needs.views.len() {
        let text =
            format!("the objective returned {} gradients for {} views", gradients.len(), needs.views.len());
        return Err(TorchError::Objective(text));
    }
    for (index, gradient) in gradients.iter().enumerate() {
        let lengths = examples.iter().map(|example| example.answer(index).tokens.len());
        let expected = match needs.granularity {
            Granularity::Summed => examples.len(),
            Granularity::PerToken => lengths.clone().sum(),
        };
        if gradient.len() != expected || !gradient.iter().all(|value| value.is_finite()) {
            let text = format!(
                "the objective's gradient by {:?} has {} numbers (expected {expected}), or one that is not finite",
                needs.views[index],
                gradient.len()
            );
            return Err(TorchError::Objective(text));
        }
        match needs.granularity {
            Granularity::PerToken => all.extend(gradient),
            // The sum's derivative by each token is one.
            Granularity::Summed => all.extend(
                lengths.zip(gradient).flat_map(|(length, value)| std::iter::repeat_n(*value, length)),
            ),
        }
    }
    Ok(all)
}
