//! Facts about a released checkpoint, and a folder that has its files but for the values of the weights.

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::model::ModelConfig;
use crate::model::expected::expected_tensors;
use crate::model::experts_config::Orientation;
use crate::model::families::parse_config;

/// Facts about a checkpoint; those that were not published are absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    /// Repository on the hub.
    pub(super) repository: String,
    /// Where the facts were published.
    pub(super) source: String,
    /// Text of the error, if the checkpoint is refused.
    pub(super) refused: Option<String>,
    pub(super) family: String,
    pub(super) context: u64,
    /// Content of `config.json`.
    config: Value,
    /// Config of the tower that `config` only names.
    tower_config: Option<Value>,
    /// Number of parameters.
    pub(super) parameters: Option<u64>,
    /// The same as a rounded text, such as 8.5B.
    pub(super) rounded: Option<String>,
    /// Of the tower.
    pub(super) tower: Option<u64>,
    /// Parameters that one token is multiplied with.
    pub(super) active: Option<u64>,
    /// Whether the output layer is the embedding.
    pub(super) tied: Option<bool>,
    /// File of `tokenizers`.
    tokenizer: Option<String>,
    /// Content of `generation_config.json`.
    generation: Option<Value>,
    pub(super) template: Option<TemplateRow>,
    /// Prompt of a question about a video, as the template writes it.
    pub(super) prompt: Option<String>,
    /// Tokens at which an answer ends, with their ids.
    pub(super) stops: Option<Vec<(String, u32)>>,
    /// Number of tensors.
    pub(super) count: Option<usize>,
    /// Shapes by name; `{0..27}` stands for a range of numbers.
    tensors: Option<BTreeMap<String, Vec<u64>>>,
}

/// Chat template of a checkpoint.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TemplateRow {
    /// File of `templates`.
    text: String,
    /// Files that have it, the one that counts first; none if that was not published.
    pub(super) files: Vec<String>,
    /// Where text and files were published, and the license.
    source: String,
}

/// Added tokens of a tokenizer, and where they were published.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddedTokens {
    source: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
    /// Text, id, and whether the token is special.
    added: Vec<(String, u32, bool)>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints")
}

fn read<T: DeserializeOwned>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All rows by the stem of their files, which are sorted.
pub(super) fn rows() -> Vec<(String, Row)> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    let stem = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (stem(path), read(path))).collect()
}

impl Row {
    /// Writes the checkpoint into a folder. Where the names of its tensors were not published they are those that its
    /// config promises; of a config that is refused there are none.
    pub(super) fn write(&self, folder: &Path) {
        let put = |name: &str, content: &Value| {
            std::fs::write(folder.join(name), content.to_string()).unwrap();
        };
        let tensors = match (&self.tensors, &self.refused) {
            (Some(patterns), _) => tensors(patterns),
            (None, Some(_)) => BTreeMap::new(),
            (None, None) => self.promised(),
        };
        assert!(self.count.is_none_or(|count| count == tensors.len()), "{} tensors", tensors.len());
        write_sparse(&folder.join("model.safetensors"), &tensors);
        put("config.json", &self.config);
        if let Some(generation) = &self.generation {
            put("generation_config.json", generation);
        }
        let Some(added) = self.added_tokens() else { return };
        put("tokenizer.json", &added.tokenizer());
        let mut settings = json!({ "bos_token": added.bos_token, "eos_token": added.eos_token });
        let template = self.template.as_ref().map(|template| (template, template.text()));
        for (file, text) in
            template.iter().flat_map(|(row, text)| row.files().map(move |file| (file, text)))
        {
            match file {
                "tokenizer_config.json" => settings["chat_template"] = json!(text),
                "chat_template.jinja" => std::fs::write(folder.join(file), text).unwrap(),
                _ => put(file, &json!({ "chat_template": text })),
            }
        }
        put("tokenizer_config.json", &settings);
    }

    /// Returns the names and shapes of the tensors that the config promises, as the family's reference implementation
    /// saves them.
    fn promised(&self) -> BTreeMap<String, Vec<u64>> {
        let config = self.whole_config();
        let mut tensors = expected_tensors(&config, Orientation::OutputFirst);
        // What the decoder's section alone says of weight tying, the files decide.
        if config.text.tie_word_embeddings && self.config["tie_word_embeddings"] != json!(true) {
            let shape = vec![config.text.vocab_size, config.text.hidden_size];
            tensors.insert("language_model.lm_head.weight".to_owned(), shape);
        }
        let unsigned = |shape: Vec<i64>| shape.into_iter().map(|size| size as u64).collect();
        tensors.into_iter().map(|(name, shape)| (config.names.saved(&name), unsigned(shape))).collect()
    }

    fn whole_config(&self) -> ModelConfig {
        let mut config = self.config.clone();
        if let Some(tower) = &self.tower_config {
            config["vision_config"] = tower.clone();
        }
        parse_config(config).unwrap_or_else(|error| panic!("{}: {error}", self.repository))
    }

    /// Returns the prefix of the tower's tensors, dot excluded.
    pub(super) fn tower_name(&self) -> &'static str {
        self.whole_config().tower().trim_end_matches('.')
    }

    fn added_tokens(&self) -> Option<AddedTokens> {
        let name = self.tokenizer.as_ref()?;
        let added: AddedTokens = read(&folder().join(format!("tokenizers/{name}.json")));
        assert!(!added.source.is_empty(), "{name}");
        Some(added)
    }

    /// Returns the id of an added token.
    pub(super) fn id(&self, token: &str) -> Option<u32> {
        let added = self.added_tokens()?.added;
        added.into_iter().find(|(text, ..)| text == token).map(|(_, id, _)| id)
    }
}

impl TemplateRow {
    fn text(&self) -> String {
        assert!(!self.source.is_empty());
        std::fs::read_to_string(folder().join(format!("templates/{}.jinja", self.text))).unwrap()
    }

    /// The files, or one that is read where there is no other.
    fn files(&self) -> impl Iterator<Item = &str> {
        let fallback = self.files.is_empty().then_some("chat_template.jinja");
        self.files.iter().map(String::as_str).chain(fallback)
    }
}

impl AddedTokens {
    /// Returns a `tokenizer.json` of all bytes, behind the ids 0 to 2, and the added tokens at their ids.
    fn tokenizer(&self) -> Value {
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let bytes = alphabet.into_iter().map(String::from).zip(3_u32..);
        let added = self.added.iter().map(|(text, id, _)| (text.clone(), *id));
        let vocab: BTreeMap<String, u32> = bytes.chain(added).collect();
        let token = |(text, id, special): &(String, u32, bool)| {
            json!({
                "id": id, "content": text, "special": special,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            })
        };
        let level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
        });
        json!({
            "version": "1.0",
            "added_tokens": self.added.iter().map(token).collect::<Vec<_>>(),
            "pre_tokenizer": level, "decoder": level,
            "model": { "type": "BPE", "vocab": vocab, "merges": [] },
        })
    }
}

/// All names that a pattern stands for.
fn names(pattern: &str) -> Vec<String> {
    let Some((before, rest)) = pattern.split_once('{') else { return vec![pattern.to_owned()] };
    let (range, after) = rest.split_once('}').unwrap();
    let (first, last) = range.split_once("..").unwrap();
    let (first, last): (u32, u32) = (first.parse().unwrap(), last.parse().unwrap());
    (first..=last).map(|number| format!("{before}{number}{after}")).collect()
}

/// Every tensor of a row with its shape.
fn tensors(patterns: &BTreeMap<String, Vec<u64>>) -> BTreeMap<String, Vec<u64>> {
    let of = |(pattern, shape): (&String, &Vec<u64>)| {
        names(pattern).into_iter().map(|name| (name, shape.clone())).collect::<Vec<_>>()
    };
    patterns.iter().flat_map(of).collect()
}

/// Writes a safetensors file of bfloat16 tensors whose values take no room on the disk. The first value of the output
/// layer is not 0, so that it differs from the embedding.
fn write_sparse(path: &Path, tensors: &BTreeMap<String, Vec<u64>>) {
    let (mut header, mut end, mut head) = (serde_json::Map::new(), 0_u64, None);
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        if name.ends_with("lm_head.weight") {
            head = Some(start);
        }
        header
            .insert(name.clone(), json!({ "dtype": "BF16", "shape": shape, "data_offsets": [start, end] }));
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    let data = 8 + header.len() as u64;
    file.set_len(data + end).unwrap();
    if let Some(head) = head {
        file.seek(SeekFrom::Start(data + head)).unwrap();
        file.write_all(&[1]).unwrap();
    }
}
