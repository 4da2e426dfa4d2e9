//! From training examples to log-probs of answer tokens, and from the objective's gradient back.

use isr_core::{Granularity, Requirements, Scene, Target, TrainExample, View, ViewLogProbs};
use tch::{Kind, Tensor};

use crate::chat::Chat;
use crate::engine::to_vec;
use crate::error::{Result, TorchError};
use crate::model::decoder::Attend;
use crate::model::positions::Positions;
use crate::model::recompute::Recompute;
use crate::model::{Sequence, Slot, VideoLmm};
use crate::visual;

/// One example as slots: the prompt once, an answer a required view.
pub(super) struct Prepared {
    prompt: Vec<Slot>,
    positions: Positions,
    scenes: Vec<Scene>,
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
        let rendered = chat.render(&example.prompt, |frames| model.config.layout(frames))?;
        let mut answers = Vec::with_capacity(needs.views.len());
        for view in &needs.views {
            let target = target(example, *view)?;
            let tokens = chat.continuation(&rendered, &target.continuation)?;
            let reference = reference(target, tokens.len(), needs)?;
            let (length, limit) =
                (rendered.extent(tokens.len()), model.config.text.max_position_embeddings);
            if tokens.is_empty() || length > limit {
                let text = format!(
                    "a training sequence of {length} tokens; it must have an answer and fit {limit}"
                );
                return Err(TorchError::Prompt(text));
            }
            answers.push(Answer { tokens, reference });
        }
        Ok(Self { prompt: rendered.slots, positions: rendered.positions, scenes: rendered.scenes, answers })
    }

    /// Tokens of the longest sequence that it makes.
    pub(super) fn longest(&self) -> usize {
        self.prompt.len() + self.answers.iter().map(|answer| answer.tokens.len()).max().unwrap_or(0)
    }

    /// The prompt and all but the last token of an answer: what is read to predict the answer.
    fn slots(&self, answer: &Answer) -> Vec<Slot> {
        let read = &answer.tokens[..answer.tokens.len() - 1];
        self.prompt.iter().copied().chain(read.iter().map(|&id| Slot::Token(id))).collect()
    }
}

fn target(example: &TrainExample, view: View) -> Result<&Target> {
    match view {
        View::Chosen => Ok(&example.chosen),
        View::Rejected => example.rejected.as_ref().ok_or_else(|| {
            TorchError::Objective(
                "the objective needs rejected answers; demonstrations have none".to_owned(),
            )
        }),
        other => Err(TorchError::Objective(format!("this policy does not compute the view {other:?}"))),
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

/// Log-probs of every answer token, view by view, example by example.
pub(super) struct Forward<'m> {
    /// `[tokens]` in float32, with their graph.
    pub(super) logprobs: Tensor,
    /// The same as numbers.
    pub(super) values: Vec<f64>,
    /// The decoder's layers, where their backward pass is apart.
    pub(super) layers: Option<Recompute<'m>>,
}

/// One padded forward pass over all answers of some examples. Padding stands behind the answers, where
/// no token looks.
pub(super) fn forward<'m>(
    model: &'m VideoLmm,
    examples: &[Prepared],
    needs: &Requirements,
    own_tower: bool,
    recompute: bool,
) -> Result<Forward<'m>> {
    let features = example_features(model, examples, own_tower)?;
    let mut slots = Vec::new();
    let (mut targets, mut starts) = (Vec::new(), Vec::new());
    for view in 0..needs.views.len() {
        for example in examples {
            let answer = &example.answers[view];
            slots.push(example.slots(answer));
            starts.push((example.prompt.len() - 1, answer.tokens.len()));
            targets.extend(answer.tokens.iter().map(|&id| i64::from(id)));
        }
    }
    let sequences: Vec<Sequence<'_>> = slots
        .iter()
        .enumerate()
        .map(|(row, slots)| {
            let example = row % examples.len();
            let positions = &examples[example].positions;
            Sequence { slots, positions, features: features[example].as_ref() }
        })
        .collect();
    let inputs = model.read(&sequences)?;
    let longest = inputs.embeddings.size()[1];
    let (hidden, layers) = match recompute {
        true => {
            let layers = Recompute::forward(&model.decoder, inputs)?;
            (layers.hidden()?, Some(layers))
        }
        false => (model.decoder.forward(&inputs, Attend::Causal)?, None),
    };
    let index: Vec<i64> = starts
        .iter()
        .enumerate()
        .flat_map(|(row, &(start, length))| {
            (0..length).map(move |at| (row as i64) * longest + (start + at) as i64)
        })
        .collect();
    let index = Tensor::f_from_slice(&index)?.f_to_device(model.device)?;
    let predicting = hidden.f_flatten(0, 1)?.f_index_select(0, &index)?;
    let all = model.decoder.logits(&predicting)?.f_log_softmax(-1, Kind::Float)?;
    let targets = Tensor::f_from_slice(&targets)?.f_to_device(model.device)?.f_unsqueeze(1)?;
    let logprobs = all.f_gather(1, &targets, false)?.f_squeeze_dim(1)?;
    let values = to_vec(&logprobs.f_detach()?)?.into_iter().map(f64::from).collect();
    Ok(Forward { logprobs, values, layers })
}

fn example_features(
    model: &VideoLmm,
    examples: &[Prepared],
    own_tower: bool,
) -> Result<Vec<Option<Tensor>>> {
    if own_tower {
        let lists: Vec<&[Scene]> = examples.iter().map(|example| example.scenes.as_slice()).collect();
        return visual::features_together(model, &lists);
    }
    examples.iter().map(|example| visual::features(model, &example.scenes, false)).collect()
}

/// Lays token log-probs out as the objective wants them.
pub(super) fn views(examples: &[Prepared], needs: &Requirements, values: &[f64]) -> Vec<ViewLogProbs> {
    let mut rest = values;
    let view = |(index, view): (usize, &View)| {
        let lengths: Vec<usize> =
            examples.iter().map(|example| example.answers[index].tokens.len()).collect();
        let (here, behind) = rest.split_at(lengths.iter().sum());
        rest = behind;
        let reference =
            examples.iter().flat_map(|example| example.answers[index].reference.iter().copied());
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
        let lengths = examples.iter().map(|example| example.answers[index].tokens.len());
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
