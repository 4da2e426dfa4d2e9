//! Output layer of a checkpoint: a tensor of its own, or the embedding's (weight tying).
//!
//! Configs claim it in two places (`tie_word_embeddings` of the model and of `text_config`), which disagree in released
//! checkpoints. The file decides, as in transformers 5:
//!
//! | `lm_head.weight` in the file | config | output layer |
//! |---|---|---|
//! | differs from the embedding | any | the file's, with a warning if the config says tied |
//! | equals the embedding | says tied | the embedding |
//! | any | says untied | the file's |
//! | missing | says tied | the embedding, with a warning if one half says untied |
//! | missing | says untied | an error |

use std::path::Path;

use serde_json::{Value, json};

use super::config::ModelConfig;
use super::names::TensorNames;
use crate::error::Result;
use crate::tensors::{Stored, TensorFolder};

/// Name of the output layer's weight in this crate.
pub(crate) const HEAD: &str = "language_model.lm_head.weight";
/// Name of the embedding in this crate.
pub(crate) const EMBEDDING: &str = "language_model.model.embed_tokens.weight";

const KEY: &str = "tie_word_embeddings";

/// Decides by a checkpoint's files whether the output layer is tied, and lets the config say so, in the form that is
/// saved as well.
///
/// # Errors
/// Weights that cannot be read.
pub(crate) fn settle(folder: &Path, config: &mut ModelConfig) -> Result<()> {
    let files = TensorFolder::open(folder)?;
    let place = folder.display();
    let claimed = config.text.tie_word_embeddings;
    let own = if claimed { own(&files, config.names)? } else { None };
    let tied = match own {
        Some(true) => {
            tracing::warn!(
                "{place}: config.json says {KEY}, but lm_head.weight differs from the embedding; it is used"
            );
            false
        }
        None if claimed && denies(&config.source) => {
            tracing::warn!(
                "{place}: one half of config.json says {KEY} = false, but there is no lm_head.weight; the embedding \
                 is used as the output layer"
            );
            true
        }
        _ => claimed,
    };
    config.text.tie_word_embeddings = tied;
    state(&mut config.source, tied);
    Ok(())
}

/// Returns whether a checkpoint folder has an output layer that differs from its embedding.
pub(super) fn has_own(folder: &Path, names: TensorNames) -> Result<bool> {
    Ok(own(&TensorFolder::open(folder)?, names)? == Some(true))
}

/// Returns whether the output layer of opened files differs from the embedding; `None` without an output layer.
fn own(files: &TensorFolder, names: TensorNames) -> Result<Option<bool>> {
    let find = |name: &str| files.tensors.iter().find(|stored| names.canonical(&stored.name) == name);
    let same = |head: &Stored, embedding: &Stored| {
        Ok(head.shape == embedding.shape && files.equal(head, embedding)?)
    };
    match (find(HEAD), find(EMBEDDING)) {
        (None, _) => Ok(None),
        (Some(_), None) => Ok(Some(true)),
        (Some(head), Some(embedding)) => same(head, embedding).map(|same| Some(!same)),
    }
}

/// Returns whether a half of a config says explicitly that the output layer is not tied.
fn denies(source: &Value) -> bool {
    [&source[KEY], &source["text_config"][KEY]].into_iter().any(|value| *value == false)
}

/// Lets both halves of a config say whether the output layer is tied, where one says otherwise. Of a tied layer the
/// outer half says so always: Qwen3-VL and Video-LLaVA go by that alone in transformers 5.
pub(crate) fn state(source: &mut Value, tied: bool) {
    let Value::Object(entries) = source else { return };
    let said = entries.get(KEY).and_then(Value::as_bool);
    if tied && said != Some(true) || !tied && said == Some(true) {
        entries.insert(KEY.to_owned(), json!(tied));
    }
    if let Some(Value::Object(text)) = entries.get_mut("text_config")
        && text.get(KEY).and_then(Value::as_bool).is_some_and(|said| said != tied)
    {
        text.insert(KEY.to_owned(), json!(tied));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_says_what_is_used_and_is_left_alone_otherwise() {
        for (given, tied, expected) in [
            (json!({ "text_config": {} }), false, json!({ "text_config": {} })),
            (json!({ "text_config": {} }), true, json!({ KEY: true, "text_config": {} })),
            (
                json!({ KEY: true, "text_config": { KEY: false } }),
                true,
                json!({ KEY: true, "text_config": { KEY: true } }),
            ),
            (
                json!({ KEY: true, "text_config": { KEY: true } }),
                false,
                json!({ KEY: false, "text_config": { KEY: false } }),
            ),
            (json!({ KEY: false }), false, json!({ KEY: false })),
        ] {
            let mut source = given;
            state(&mut source, tied);
            assert_eq!(source, expected);
        }
    }
}
