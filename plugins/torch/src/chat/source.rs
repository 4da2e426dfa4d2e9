//! Where a checkpoint's chat template is found.
//!
//! The order is that of transformers 5.24 for a processor (`ProcessorMixin.get_processor_dict`), then its tokenizer
//! (`PreTrainedTokenizerBase.from_pretrained`).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::bounds::MAX_TEMPLATE_BYTES;
use crate::error::{Result, TorchError};
use crate::json_file;
use crate::model::config::BuiltIn;

/// Folder of further templates, a file each.
pub(crate) const ADDITIONAL: &str = "additional_chat_templates";

/// LLaVA's `v1` template (Vicuna), which the LLaVA repositories have in their code.
const V1: &str = include_str!("v1.jinja");

/// LLaVA-NeXT's `qwen_1_5` template (ChatML with Qwen's system message), likewise.
const QWEN_1_5: &str = include_str!("qwen_1_5.jinja");

/// Template of a checkpoint.
#[derive(Clone, Debug)]
pub(super) struct TemplateSource {
    /// Jinja source.
    pub(super) text: String,
    /// Place that it was found in, relative to the checkpoint folder.
    pub(super) place: String,
}

impl TemplateSource {
    /// Finds the template of a checkpoint folder; `built_in` is used where there is none.
    ///
    /// # Errors
    /// No template, several of which none is named `default`, or files that transformers refuses together.
    pub(super) fn find(folder: &Path, tokenizer_config: &Value, built_in: Option<BuiltIn>) -> Result<Self> {
        let processor = json_file::read_optional(&folder.join("processor_config.json"))?;
        let legacy = json_file::read_optional(&folder.join("chat_template.json"))?;
        let mut files = additional(folder)?;
        if !legacy.is_null() && !files.is_empty() {
            let reason =
                format!("cannot be combined with {ADDITIONAL}/; move its template to chat_template.jinja");
            return Err(TorchError::checkpoint(folder.join("chat_template.json"), reason));
        }
        let path = folder.join("chat_template.jinja");
        if path.exists() {
            files.insert("default".to_owned(), ("chat_template.jinja".to_owned(), read(&path)?));
        }
        for (name, entry) in [("processor_config.json", &processor), ("chat_template.json", &legacy)] {
            if let Some(found) =
                entries(name, &entry["chat_template"]).map_err(|why| at(folder, name, why))?
            {
                return choose(folder, name, found);
            }
        }
        if !legacy.is_null() {
            return Err(at(folder, "chat_template.json", "has no entry `chat_template`".to_owned()));
        }
        if !files.is_empty() {
            return choose(folder, ADDITIONAL, files);
        }
        let name = "tokenizer_config.json";
        let found =
            entries(name, &tokenizer_config["chat_template"]).map_err(|why| at(folder, name, why))?;
        match (found, built_in) {
            (_, Some(BuiltIn::Qwen15)) => Ok(Self::built_in(BuiltIn::Qwen15)),
            (Some(found), _) => choose(folder, name, found),
            (None, Some(built_in)) => Ok(Self::built_in(built_in)),
            (None, None) => Err(TorchError::checkpoint(
                folder,
                format!(
                    "has no chat template: looked for `chat_template` in processor_config.json and \
                     chat_template.json, for chat_template.jinja and {ADDITIONAL}/*.jinja, and for `chat_template` in \
                     tokenizer_config.json; copy the template of the model that this one was made from"
                ),
            )),
        }
    }
}

impl TemplateSource {
    fn built_in(template: BuiltIn) -> Self {
        let (text, place) = match template {
            BuiltIn::V1 => (V1, "LLaVA's v1, built in"),
            BuiltIn::Qwen15 => (QWEN_1_5, "LLaVA-NeXT's qwen_1_5, built in"),
        };
        Self { text: text.to_owned(), place: place.to_owned() }
    }
}

/// Templates by name: place and text.
type Templates = BTreeMap<String, (String, String)>;

fn at(folder: &Path, name: &str, reason: String) -> TorchError {
    TorchError::checkpoint(folder.join(name), reason)
}

/// Interprets an entry `chat_template`: a text, a list of `{name, template}`, or an object of texts by name.
fn entries(file: &str, value: &Value) -> std::result::Result<Option<Templates>, String> {
    let named = |name: &str, template: &Value| {
        let text = template.as_str().ok_or_else(|| format!("template `{name}` is not a text"))?;
        Ok((name.to_owned(), (format!("{file}, template `{name}`"), text.to_owned())))
    };
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some([("default".to_owned(), (file.to_owned(), text.clone()))].into())),
        Value::Object(map) => {
            map.iter().map(|(name, template)| named(name, template)).collect::<Result<_, _>>().map(Some)
        }
        Value::Array(list) => {
            let one = |entry: &Value| {
                let name = entry["name"].as_str().ok_or("a named template has no `name`")?;
                named(name, &entry["template"])
            };
            list.iter().map(one).collect::<Result<_, String>>().map(Some)
        }
        _ => Err("chat_template is neither a text nor a list of named templates".to_owned()),
    }
}

/// Chooses `default`, else the only template.
fn choose(folder: &Path, place: &str, mut found: Templates) -> Result<TemplateSource> {
    let names = found.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let chosen = found.remove("default").or_else(|| match found.len() {
        1 => found.pop_first().map(|(_, template)| template),
        _ => None,
    });
    let Some((place, text)) = chosen else {
        let reason = format!("has chat templates {names}, of which none is named `default`; rename one");
        return Err(at(folder, place, reason));
    };
    if text.len() > MAX_TEMPLATE_BYTES {
        let reason = format!("the chat template has {} bytes, more than {MAX_TEMPLATE_BYTES}", text.len());
        return Err(TorchError::checkpoint(folder.join(place), reason));
    }
    Ok(TemplateSource { text, place })
}

/// Reads the templates of [`ADDITIONAL`] by the stem of their files.
fn additional(folder: &Path) -> Result<Templates> {
    let named = |place: String| {
        let stem =
            Path::new(&place).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let text = read(&folder.join(&place))?;
        Ok((stem, (place, text)))
    };
    additional_templates(folder)?.into_iter().map(named).collect()
}

/// Lists the files of [`ADDITIONAL`], relative to the checkpoint folder and sorted.
///
/// # Errors
/// A folder that cannot be read.
pub(crate) fn additional_templates(folder: &Path) -> Result<Vec<String>> {
    let dir = folder.join(ADDITIONAL);
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut places = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(TorchError::io("read", &dir))? {
        let name = entry.map_err(TorchError::io("read", &dir))?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.ends_with(".jinja")) {
            places.push(format!("{ADDITIONAL}/{name}"));
        }
    }
    places.sort();
    Ok(places)
}

/// Reads a file of at most [`MAX_TEMPLATE_BYTES`].
fn read(path: &Path) -> Result<String> {
    let size = std::fs::metadata(path).map_err(TorchError::io("read", path))?.len();
    if size > MAX_TEMPLATE_BYTES as u64 {
        let reason = format!("the chat template has {size} bytes, more than {MAX_TEMPLATE_BYTES}");
        return Err(TorchError::checkpoint(path, reason));
    }
    std::fs::read_to_string(path).map_err(TorchError::io("read", path))
}
