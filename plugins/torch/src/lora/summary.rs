//! Summary of an adapter folder.

use std::path::Path;

use serde::Serialize;

use super::patterns::Scaling;
use super::peft;
use super::saved::module_of;
use crate::error::{Result, TorchError};
use crate::tensors::TensorFolder;

/// Summary of a LoRA adapter.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterSummary {
    /// Folder of the base model.
    pub base: String,
    /// Kind of the adapter: `LoRA` or `DoRA`.
    pub kind: String,
    /// LoRA rank, where `rank_pattern` has no other.
    pub rank: i64,
    /// Scale of the low-rank update: alpha / rank, or alpha / sqrt(rank) with rsLoRA.
    pub scale: f64,
    /// Whether ranks or alphas differ between modules.
    pub patterns: bool,
    /// Modules that the adapter holds in full.
    pub saved_modules: Vec<String>,
    /// Number of adapter parameters, saved modules included.
    pub parameters: u64,
}

/// Reads the summary of an adapter folder from its config and the header of its weights.
pub(crate) fn summary(folder: &Path, base: &Path) -> Result<AdapterSummary> {
    let (_, config) = peft::read_config(folder)?;
    let scaling = Scaling::new(&config).map_err(TorchError::Adapter)?;
    let files = TensorFolder::open_file(&folder.join(peft::TENSORS))?;
    let is_saved = |name: &str| {
        peft::path_of(name).is_some_and(|path| module_of(path, &config.modules_to_save).is_some())
    };
    let own = files.tensors.iter().filter(|it| peft::parse_name(&it.name).is_some() || is_saved(&it.name));
    Ok(AdapterSummary {
        base: base.display().to_string(),
        kind: if config.dora { "DoRA" } else { "LoRA" }.to_owned(),
        rank: config.rank,
        scale: scaling.scale(""),
        patterns: scaling.has_patterns(),
        parameters: own.map(|it| it.count() as u64).sum(),
        saved_modules: config.modules_to_save,
    })
}
