//! From rendered prompts to what the decoder reads.

use tch::Tensor;

use super::VideoLmm;
use super::decoder::Inputs;
use super::positions::{self, Positions};
use crate::error::{Result, TorchError};

/// One position of a rendered prompt or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A token.
    Token(u32),
    /// Visual feature `.0` of the sequence's videos, counted over all of them.
    Visual(usize),
}

/// One sequence for the decoder: slots, and the visual features that they refer to.
pub(crate) struct Sequence<'a> {
    /// What stands at each position.
    pub(crate) slots: &'a [Slot],
    /// Positions of the prompt that the sequence begins with.
    pub(crate) positions: &'a Positions,
    /// Tower features `[features, width]` of the sequence's videos; `None` without a video.
    pub(crate) features: Option<&'a Tensor>,
}

impl VideoLmm {
    /// Sequences as one batch, padded at the end with zeros.
    ///
    /// One lookup and one projection for the whole batch, gathered into place.
    pub(crate) fn read(&self, batch: &[Sequence<'_>]) -> Result<Inputs> {
        let longest = batch.iter().map(|sequence| sequence.slots.len()).max().unwrap_or(0);
        let tokens: Vec<i64> = batch
            .iter()
            .flat_map(|sequence| sequence.slots)
            .filter_map(|slot| if let Slot::Token(id) = slot { Some(i64::from(*id)) } else { None })
            .collect();
        let ids = Tensor::f_from_slice(&tokens)?.f_to_device(self.device)?;
        let words = Tensor::f_embedding(&self.embedding, &ids, -1, false, false)?;
        let features: Vec<&Tensor> = batch.iter().filter_map(|sequence| sequence.features).collect();
        let visual = match features.is_empty() {
            true => None,
            false => Some(self.project(&Tensor::f_cat(&features, 0)?)?),
        };
        let hidden = self.config.text.hidden_size;
        let shape = [batch.len() as i64, longest as i64, hidden];
        let zero = Tensor::f_zeros([1, hidden], (self.kind, self.device))?;
        let place = |words: Option<&Tensor>, level: i64, index: &[i64]| -> Result<Tensor> {
            let mut rows: Vec<Tensor> = words.iter().map(|words| words.shallow_clone()).collect();
            if let Some(visual) = &visual {
                rows.push(visual.f_narrow(1, level * hidden, hidden)?);
            }
            rows.push(zero.shallow_clone());
            let index = Tensor::f_from_slice(index)?.f_to_device(self.device)?;
            Ok(Tensor::f_cat(&rows, 0)?.f_index_select(0, &index)?.f_view(shape)?)
        };
        let index = gather_index(batch, tokens.len(), longest)?;
        let embeddings = place(Some(&words), 0, &index)?;
        let mut deep = Vec::new();
        if let Some(visual) = &visual {
            let index = visual_index(&index, tokens.len() as i64, visual.size()[0]);
            for level in 1..visual.size()[1] / hidden {
                deep.push(place(None, level, &index)?);
            }
        }
        let rows: Vec<_> =
            batch.iter().map(|sequence| (sequence.positions, sequence.slots.len())).collect();
        let positions = positions::batch(&rows, longest, self.device)?;
        Ok(Inputs { embeddings, positions, deep })
    }

    /// One token of each of several sequences, `[tokens, 1]`, at their positions.
    pub(crate) fn read_step(&self, ids: &[i64], positions: &[i64]) -> Result<Inputs> {
        self.read_tokens(ids, positions, [ids.len() as i64, 1])
    }

    /// Tokens of one sequence, `[1, tokens]`, from a position on.
    pub(crate) fn read_answer(&self, ids: &[i64], start: i64) -> Result<Inputs> {
        let positions: Vec<i64> = (start..start + ids.len() as i64).collect();
        self.read_tokens(ids, &positions, [1, ids.len() as i64])
    }

    fn read_tokens(&self, ids: &[i64], positions: &[i64], shape: [i64; 2]) -> Result<Inputs> {
        let place = |values: &[i64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_to_device(self.device)?.f_view(shape)?)
        };
        let embeddings = Tensor::f_embedding(&self.embedding, &place(ids)?, -1, false, false)?;
        let positions = place(positions)?.f_expand([3, shape[0], shape[1]], false)?;
        Ok(Inputs { embeddings, positions, deep: Vec::new() })
    }
}

/// Where each position of the padded batch finds its row in [tokens, visual features, zero].
fn gather_index(batch: &[Sequence<'_>], tokens: usize, longest: usize) -> Result<Vec<i64>> {
    let visual: usize = batch.iter().map(feature_count).sum();
    let (mut token, mut first_feature) = (0, tokens);
    let mut index = Vec::with_capacity(batch.len() * longest);
    for sequence in batch {
        for slot in sequence.slots {
            match *slot {
                Slot::Token(_) => {
                    index.push(token as i64);
                    token += 1;
                }
                Slot::Visual(feature) if feature < feature_count(sequence) => {
                    index.push((first_feature + feature) as i64);
                }
                Slot::Visual(feature) => {
                    return Err(TorchError::Prompt(format!("the prompt has no visual feature {feature}")));
                }
            }
        }
        first_feature += feature_count(sequence);
        index.extend(std::iter::repeat_n((tokens + visual) as i64, longest - sequence.slots.len()));
    }
    Ok(index)
}

/// The same in [visual features, zero]: tokens and padding find the zero.
fn visual_index(index: &[i64], tokens: i64, visual: i64) -> Vec<i64> {
    index.iter().map(|&at| if at < tokens { visual } else { at - tokens }).collect()
}

fn feature_count(sequence: &Sequence<'_>) -> usize {
    sequence.features.map_or(0, |features| features.size()[0] as usize)
}
