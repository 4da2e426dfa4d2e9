//! Names of tensors and modules.

/// Mapping between a checkpoint format's names and this crate's.
///
/// This crate's names of tensors begin with `language_model.model.`, `language_model.lm_head.`,
/// `multi_modal_projector.` or the prefix of the vision tower.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorNames {
    pub(super) canonical: fn(&str) -> String,
    pub(super) saved: fn(&str) -> String,
    pub(super) module: fn(&str) -> String,
}

impl TensorNames {
    /// Maps a tensor name of a checkpoint file, written by any known version of the format, to this crate's.
    pub(crate) fn canonical(&self, stored: &str) -> String {
        (self.canonical)(stored)
    }

    /// Maps this crate's tensor name to the name that the format's reference implementation saves.
    pub(crate) fn saved(&self, canonical: &str) -> String {
        (self.saved)(canonical)
    }

    /// Maps this crate's module name to the module name of the reference implementation, as adapter files use
    /// it.
    pub(crate) fn module(&self, canonical: &str) -> String {
        (self.module)(canonical)
    }
}

/// Maps this crate's module name to that of transformers 5.
pub(super) fn transformers_module(canonical: &str) -> String {
    if let Some(rest) = canonical.strip_prefix("language_model.model.") {
        return format!("model.language_model.{rest}");
    }
    match canonical.strip_prefix("language_model.") {
        Some(rest) => rest.to_owned(),
        None => format!("model.{canonical}"),
    }
}
