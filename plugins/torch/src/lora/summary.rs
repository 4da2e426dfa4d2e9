//! Summary of an adapter folder.

use std::path::Path;

use serde::Serialize;

use super::pairs::scale;
use super::peft;
use crate::error::Result;
use crate::tensors::TensorFolder;

/// Summary of a LoRA adapter.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterSummary {
    /// Folder of the base model.
    pub base: String,
    /// LoRA rank.
    pub rank: i64,
    /// Scale of the low-rank update: alpha / rank, or alpha / sqrt(rank) with rsLoRA.
    pub scale: f64,
    /// Number of adapter parameters.
    pub parameters: u64,
}

/// Reads the summary of an adapter folder from its config and the header of its weights.
pub(crate) fn summary(folder: &Path, base: &Path) -> Result<AdapterSummary> {
    let (_, config) = peft::read_config(folder)?;
    let files = TensorFolder::open_file(&folder.join(peft::TENSORS))?;
    Ok(AdapterSummary {
        base: base.display().to_string(),
        rank: config.rank,
        scale: scale(&config),
        parameters: files
            .tensors
            .iter()
            .filter(|it| peft::parse_name(&it.name).is_some())
            .map(|it| it.count() as u64)
            .sum(),
    })
}
