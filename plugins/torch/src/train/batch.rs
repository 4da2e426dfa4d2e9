//! Forward and backward pass of a micro-batch: from training examples to log-probs of answer tokens, and from the
//! objective's gradient to the weights'.

use isr_api::{Prompt, Requirements, TrainExample, VideoInput, View, ViewLogProbs};
use tch::Tensor;

use super::head::AnswerHead;
use crate::chat::{Chat, Rendered};
use crate::error::{Result, TorchError};
use crate::model::decoder::{AttentionMode, PackedSequence};
use crate::model::gradient_checkpointing::{CheckpointedForward, LayerWeights};
use crate::model::positions::Positions;
use crate::model::{Sequence, Slot, VideoLmm};
use crate::visual;

/// Tokenised training example: its distinct prompts, each with its answers, one for each required view.
pub(super) struct TokenizedExample {
    prompts: Vec<AnsweredPrompt>,
    /// Index of prompt and answer of each view.
    places: Vec<(usize, usize)>,
}

/// Tokenised prompt with the answers that follow it.
struct AnsweredPrompt {
    slots: Vec<Slot>,
    positions: Positions,
    scenes: Vec<VideoInput>,
    answers: Vec<Answer>,
}

/// Answer tokens with their log-probs under the reference policy, which are empty if not required.
struct Answer {
    tokens: Vec<u32>,
    reference: Vec<f64>,
}

impl TokenizedExample {
    /// Renders and tokenises an example for the required views.
    ///
    /// # Errors
    /// A view that the example lacks, missing reference log-probs, or a sequence that exceeds the context.
    pub(super) fn new(
        model: &VideoLmm,
        chat: &Chat,
        example: &TrainExample,
        needs: &Requirements,
    ) -> Result<Self> {
        let mut prompts: Vec<(&Prompt, Rendered, Vec<Answer>)> = Vec::new();
        let mut places = Vec::with_capacity(needs.views.len());
        for view in &needs.views {
            let found = example.view(*view);
            let (prompt, target) = found.map_err(|error| TorchError::Objective(error.to_string()))?;
            let at = match prompts.iter().position(|(known, ..)| std::ptr::eq(*known, prompt)) {
                Some(at) => at,
                None => {
                    let rendered = chat.render(prompt, |frames| model.config.layout(frames))?;
                    prompts.push((prompt, rendered, Vec::new()));
                    prompts.len() - 1
                }
            };
            let (_, rendered, answers) = &mut prompts[at];
            let tokens = chat.continuation(rendered, &target.continuation)?;
            let reference =
                target.required_reference(tokens.len(), needs).map_err(TorchError::Objective)?;
            let (length, limit) =
                (rendered.extent(tokens.len()), model.config.text.max_position_embeddings);
            if tokens.is_empty() || length > limit {
                let text = format!(
                    "a training sequence of {length} tokens; it must have an answer and fit {limit}"
                );
                return Err(TorchError::Prompt(text));
            }
            places.push((at, answers.len()));
            answers.push(Answer { tokens, reference });
        }
        let answered = |(_, rendered, answers): (&Prompt, Rendered, Vec<Answer>)| AnsweredPrompt {
            slots: rendered.slots,
            positions: rendered.positions,
            scenes: rendered.scenes,
            answers,
        };
        Ok(Self { prompts: prompts.into_iter().map(answered).collect(), places })
    }

    /// Returns the number of input tokens.
    pub(super) fn length(&self) -> usize {
        self.prompts.iter().map(AnsweredPrompt::length).sum()
    }

    /// Returns the answer of the view with this index.
    fn answer(&self, view: usize) -> &Answer {
        let (prompt, answer) = self.places[view];
        &self.prompts[prompt].answers[answer]
    }

    /// Returns the indices, among the example's output hidden states, that predict the tokens of a view's answer.
    fn predicting(&self, view: usize) -> impl Iterator<Item = usize> {
        let (prompt, answer) = self.places[view];
        let before: usize = self.prompts[..prompt].iter().map(AnsweredPrompt::outputs).sum();
        self.prompts[prompt].predicting(answer).map(move |at| before + at)
    }
}

impl AnsweredPrompt {
    /// Returns the input sequence: the prompt, and each answer without its last token.
    fn sequence<'a>(&'a self, features: Option<&'a Tensor>) -> Sequence<'a> {
        let suffixes =
            self.answers.iter().map(|answer| &answer.tokens[..answer.tokens.len() - 1]).collect();
        let (slots, positions) = (self.slots.as_slice(), &self.positions);
        Sequence { slots, start: 0, positions, features, suffixes }
    }

    /// Returns the length of [`sequence`](Self::sequence).
    fn length(&self) -> usize {
        self.slots.len() + self.answers.iter().map(|answer| answer.tokens.len() - 1).sum::<usize>()
    }

    /// Returns the number of output hidden states: the prompt's last, and those of the answers.
    fn outputs(&self) -> usize {
        1 + self.length() - self.slots.len()
    }

    /// Returns the indices among those that predict the tokens of answer `index`.
    fn predicting(&self, index: usize) -> impl Iterator<Item = usize> {
        let before = self.answers[..index].iter().map(|answer| answer.tokens.len() - 1).sum::<usize>();
        let behind = 1 + before..before + self.answers[index].tokens.len();
        std::iter::once(0).chain(behind)
    }
}

/// Forward pass of a micro-batch, with the state of its backward pass.
pub(super) struct Forward<'m> {
    /// Log-probs of every answer token, ordered by view, then example.
    pub(super) values: Vec<f64>,
    head: AnswerHead<'m>,
    /// Checkpointed decoder layers; `None` if they are part of the head's graph.
    layers: Option<CheckpointedForward<'m>>,
}

impl Forward<'_> {
    /// Accumulates the weights' gradients; `coefficients` are the loss's derivatives by each of `values`.
    pub(super) fn backward(self, coefficients: &[f32]) -> Result<()> {
        self.head.backward(coefficients)?;
        self.layers.map_or(Ok(()), CheckpointedForward::backward)
    }
}

/// Computation between the embeddings and the language-model head.
#[derive(Clone, Copy)]
pub(super) enum ForwardMode<'m> {
    /// Decoder layers with a graph.
    Full,
    /// Decoder layers with gradient checkpointing, perhaps with weights that are not in memory all the time.
    Checkpointed(Option<&'m dyn LayerWeights>),
    /// One parameter-free attention to the prompt instead of the decoder layers
    /// ([`skip_layers`](crate::model::decoder::Decoder::skip_layers)).
    SkipDecoder,
}

impl ForwardMode<'_> {
    /// Returns the mode for a pass without backward pass, which keeps no layer's input.
    pub(super) fn without_graph(self) -> Self {
        match self {
            Self::Checkpointed(None) => Self::Full,
            other => other,
        }
    }
}

/// Runs the model on examples packed into one row without padding; a prompt is computed once for all its answers.
pub(super) fn forward<'m>(
    model: &'m VideoLmm,
    examples: &[TokenizedExample],
    needs: &Requirements,
    own_tower: bool,
    mode: ForwardMode<'m>,
) -> Result<Forward<'m>> {
    let all: Vec<&AnsweredPrompt> = examples.iter().flat_map(|example| &example.prompts).collect();
    let features = prompt_features(model, &all, own_tower)?;
    let sequences: Vec<Sequence<'_>> =
        all.iter().zip(&features).map(|(prompt, features)| prompt.sequence(features.as_ref())).collect();
    let packed: Vec<PackedSequence> = sequences.iter().map(Sequence::packed).collect();
    let inputs = model.embed(&sequences)?;
    let (hidden, layers) = match mode {
        ForwardMode::Checkpointed(weights) => {
            let layers = CheckpointedForward::forward(&model.decoder, inputs, packed, weights)?;
            (layers.hidden()?, Some(layers))
        }
        ForwardMode::Full => {
            (model.decoder.forward(&inputs, AttentionMode::PackedSuffixes(&packed))?, None)
        }
        ForwardMode::SkipDecoder => (model.decoder.skip_layers(&inputs, &packed)?, None),
    };
    let (index, targets) = predictions(examples, needs.views.len());
    let index = Tensor::f_from_slice(&index)?.f_to_device(model.device)?;
    let predicting = hidden.f_squeeze_dim(0)?.f_index_select(0, &index)?;
    let head = AnswerHead::new(&model.decoder, predicting, &targets)?;
    Ok(Forward { values: head.log_probs()?, head, layers })
}

/// Returns the index of the hidden state that predicts each answer token, and the tokens, ordered by view, then
/// example.
fn predictions(examples: &[TokenizedExample], views: usize) -> (Vec<i64>, Vec<i64>) {
    let (mut index, mut targets) = (Vec::new(), Vec::new());
    for view in 0..views {
        let mut start = 0;
        for example in examples {
            index.extend(example.predicting(view).map(|at| (start + at) as i64));
            targets.extend(example.answer(view).tokens.iter().map(|&id| i64::from(id)));
            start += example.prompts.iter().map(AnsweredPrompt::outputs).sum::<usize>();
        }
    }
    (index, targets)
}

/// Returns the tower features of each prompt's videos; with `own_tower` from the model's tower, with their graph.
fn prompt_features(
    model: &VideoLmm,
    prompts: &[&AnsweredPrompt],
    own_tower: bool,
) -> Result<Vec<Option<Tensor>>> {
    if own_tower {
        let lists: Vec<&[VideoInput]> = prompts.iter().map(|prompt| prompt.scenes.as_slice()).collect();
        return visual::features_together(model, &lists);
    }
    prompts.iter().map(|prompt| visual::features(model, &prompt.scenes, false)).collect()
}

/// Calls `visit` with view, log-probs and reference log-probs of each answer's tokens.
pub(super) fn each_answer(
    examples: &[TokenizedExample],
    needs: &Requirements,
    values: &[f64],
    mut visit: impl FnMut(View, &[f64], &[f64]),
) {
    let mut rest = values;
    for (index, view) in needs.views.iter().enumerate() {
        for example in examples {
            let answer = example.answer(index);
            let (here, behind) = rest.split_at(answer.tokens.len());
            visit(*view, here, &answer.reference);
            rest = behind;
        }
    }
}

/// Arranges token log-probs as the objective requires them.
pub(super) fn views(
    examples: &[TokenizedExample],
    needs: &Requirements,
    values: &[f64],
) -> Vec<ViewLogProbs> {
    let mut rest = values;
    let view = |(index, view): (usize, &View)| {
        let lengths = lengths(examples, index);
        let (here, behind) = rest.split_at(lengths.iter().sum());
        rest = behind;
        let reference = examples.iter().flat_map(|example| example.answer(index).reference.iter().copied());
        let reference: Vec<f64> = reference.collect();
        ViewLogProbs::of_tokens(*view, here, &reference, lengths, needs)
    };
    needs.views.iter().enumerate().map(view).collect()
}

/// Tokens of each example's answer in the view with this index.
fn lengths(examples: &[TokenizedExample], view: usize) -> Vec<usize> {
    examples.iter().map(|example| example.answer(view).tokens.len()).collect()
}

/// Expands the objective's gradient to the loss's derivative by each token's log-prob, in the order of
/// [`Forward::values`].
///
/// # Errors
/// A gradient of another size, or with numbers that are not finite.
pub(super) fn token_gradients(
    examples: &[TokenizedExample],
    needs: &Requirements,
    gradients: &[Vec<f64>],
) -> Result<Vec<f64>> {
    let lengths: Vec<_> = (0..needs.views.len()).map(|view| lengths(examples, view)).collect();
    needs.token_gradients(&lengths, gradients).map_err(TorchError::Objective)
}
