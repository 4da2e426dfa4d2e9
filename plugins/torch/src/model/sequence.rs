//! Sequences of token and feature slots, and their embedding.

use tch::Tensor;

use super::VideoLmm;
use super::decoder::{Inputs, PackedSequence};
use super::positions::{self, Positions};
use super::projector::Projector;
use crate::error::{Result, TorchError};

/// Content of one position of a prompt or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Token id.
    Token(u32),
    /// Index of a projected visual feature, counted over all videos of the sequence.
    Visual(usize),
    /// Newline embedding of the projector.
    Newline,
}

/// Part of a prompt (the prefix), and answers (suffixes) that each follow it.
pub(crate) struct Sequence<'a> {
    /// Slots of the prefix.
    pub(crate) slots: &'a [Slot],
    /// Index in the prompt of the first slot.
    pub(crate) start: usize,
    /// Positions of the whole prompt.
    pub(crate) positions: &'a Positions,
    /// Tower features `[features, width]` of the prompt's videos; `None` if `slots` has no visual slot.
    pub(crate) features: Option<&'a Tensor>,
    /// Tokens of each suffix, positioned directly behind the prefix.
    pub(crate) suffixes: Vec<&'a [u32]>,
}

impl Sequence<'_> {
    /// Returns the lengths of prefix and suffixes.
    pub(crate) fn packed(&self) -> PackedSequence {
        let suffixes = self.suffixes.iter().map(|suffix| suffix.len() as i64).collect();
        PackedSequence::new(self.slots.len() as i64, suffixes)
    }

    fn all_slots(&self) -> impl Iterator<Item = Slot> {
        let suffixes = self.suffixes.iter().copied().flatten();
        self.slots.iter().copied().chain(suffixes.map(|&id| Slot::Token(id)))
    }

    fn all_positions(&self) -> impl Iterator<Item = [i64; 3]> {
        let end = self.start + self.slots.len();
        let suffixes = self.suffixes.iter().flat_map(move |suffix| end..end + suffix.len());
        (self.start..end).chain(suffixes).map(|index| self.positions.at(index))
    }

    fn feature_count(&self) -> usize {
        self.features.map_or(0, |features| features.size()[0] as usize)
    }
}

impl VideoLmm {
    /// Embeds sequences packed into one row `[1, length, hidden]` without padding: each prefix, then its suffixes.
    /// [`AttentionMode::Packed`](super::decoder::AttentionMode::Packed) with their [`Sequence::packed`] keeps
    /// them apart. Token lookup and projection are one operation each for all sequences.
    ///
    /// # Errors
    /// A visual slot without a feature.
    pub(crate) fn embed(&self, sequences: &[Sequence<'_>]) -> Result<Inputs> {
        let slots: Vec<Slot> = sequences.iter().flat_map(Sequence::all_slots).collect();
        let tokens: Vec<i64> = slots.iter().filter_map(token).collect();
        let ids = Tensor::f_from_slice(&tokens)?.f_to_device(self.device)?;
        let words = Tensor::f_embedding(&self.embedding, &ids, -1, false, false)?;
        let features: Vec<&Tensor> = sequences.iter().filter_map(|sequence| sequence.features).collect();
        let visual = match features.is_empty() {
            true => None,
            false => Some(self.project(&Tensor::f_cat(&features, 0)?)?),
        };
        let hidden = self.config.text.hidden_size;
        let place = |rows: &[Tensor], index: &[i64]| -> Result<Tensor> {
            let index = Tensor::f_from_slice(index)?.f_to_device(self.device)?;
            Ok(Tensor::f_cat(rows, 0)?.f_index_select(0, &index)?.f_unsqueeze(0)?)
        };
        let count =
            |features: usize| self.projector.as_ref().map_or(features, |part| part.outputs(features));
        let counts: Vec<usize> = sequences.iter().map(|sequence| count(sequence.feature_count())).collect();
        let index = gather_index(sequences, tokens.len(), &counts)?;
        let (mut rows, mut deep) = (vec![words], Vec::new());
        if let Some(visual) = &visual {
            let level = |level: i64| visual.f_narrow(1, level * hidden, hidden);
            rows.push(level(0)?);
            let index = visual_index(&index, tokens.len() as i64, visual.size()[0]);
            for number in 1..visual.size()[1] / hidden {
                let zero = Tensor::f_zeros([1, hidden], (self.kind, self.device))?;
                deep.push(place(&[level(number)?, zero], &index)?);
            }
        }
        if let Some(newline) = self.projector.as_ref().and_then(Projector::newline) {
            rows.push(newline.f_unsqueeze(0)?);
        }
        let embeddings = place(&rows, &index)?;
        let positions: Vec<_> = sequences.iter().flat_map(Sequence::all_positions).collect();
        Ok(Inputs { embeddings, positions: positions::tensor(&positions, self.device)?, deep })
    }

    /// Embeds one token of each of several sequences, `[tokens, 1]`, at the given positions.
    pub(crate) fn embed_step(&self, ids: &[i64], positions: &[i64]) -> Result<Inputs> {
        self.embed_at(ids, positions, [ids.len() as i64, 1])
    }

    /// Embeds consecutive tokens of one sequence, `[1, tokens]`, from position `start`.
    pub(crate) fn embed_tokens(&self, ids: &[i64], start: i64) -> Result<Inputs> {
        let positions: Vec<i64> = (start..start + ids.len() as i64).collect();
        self.embed_at(ids, &positions, [1, ids.len() as i64])
    }

    /// Embeds tokens `[tokens]` to `[tokens, hidden]`.
    pub(crate) fn embed_ids(&self, ids: &Tensor) -> Result<Tensor> {
        Ok(Tensor::f_embedding(&self.embedding, ids, -1, false, false)?)
    }

    fn embed_at(&self, ids: &[i64], positions: &[i64], shape: [i64; 2]) -> Result<Inputs> {
        let place = |values: &[i64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_to_device(self.device)?.f_view(shape)?)
        };
        let embeddings = Tensor::f_embedding(&self.embedding, &place(ids)?, -1, false, false)?;
        let positions = place(positions)?.f_expand([3, shape[0], shape[1]], false)?;
        Ok(Inputs { embeddings, positions, deep: Vec::new() })
    }
}

fn token(slot: &Slot) -> Option<i64> {
    if let Slot::Token(id) = slot { Some(i64::from(*id)) } else { None }
}

/// Returns the row of each position in `[tokens, visual features, newline]`, where `counts` are the visual features of
/// each sequence.
fn gather_index(sequences: &[Sequence<'_>], tokens: usize, counts: &[usize]) -> Result<Vec<i64>> {
    let (mut next_token, mut first_feature) = (0, tokens);
    let newline = tokens + counts.iter().sum::<usize>();
    let mut index = Vec::new();
    for (sequence, &count) in sequences.iter().zip(counts) {
        for slot in sequence.all_slots() {
            match slot {
                Slot::Token(_) => {
                    index.push(next_token);
                    next_token += 1;
                }
                Slot::Newline => index.push(newline as i64),
                Slot::Visual(feature) if feature < count => {
                    index.push((first_feature + feature) as i64);
                }
                Slot::Visual(feature) => {
                    return Err(TorchError::Prompt(format!("the prompt has no visual feature {feature}")));
                }
            }
        }
        first_feature += count;
    }
    Ok(index)
}

/// Returns the row of each position in `[visual features, zero]`, where tokens have the zero.
fn visual_index(index: &[i64], tokens: i64, visual: i64) -> Vec<i64> {
    index.iter().map(|&at| if at < tokens { visual } else { at - tokens }).collect()
}
