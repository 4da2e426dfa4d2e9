//! Tokenizer of a checkpoint, which nobody has to trust: it is bounded when it is read, and works on a thread of its
//! own whose answers are waited for.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{Model as _, OffsetType, PreTokenizer as _, Tokenizer};

use super::marks::MARK;
use crate::error::{Result, TorchError};

/// Largest tokenizer.json in bytes; those of today's models have up to 35 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Most that the replacements of a tokenizer may lengthen a text.
const MAX_GROWTH: f64 = 64.0;

/// Time for one text, in seconds. The bounds of texts let any usual tokenizer end in a small part of it. It is waited in
/// slices, so that a suspension of the program counts as one of them.
const SECONDS: u32 = 60;

/// Stack of the tokenizer's thread.
const STACK_BYTES: usize = 64 << 20;

/// Tokenizer and its thread.
pub(super) struct Tokens {
    tokenizer: Arc<Tokenizer>,
    worker: Sender<Job>,
    /// Whether the thread is still busy with a text that was given up.
    stuck: AtomicBool,
    /// Special tokens, by their text.
    pub(super) special: BTreeSet<String>,
    /// Length of the longest token in bytes.
    longest: usize,
}

/// Text to tokenise, whether to add special tokens, and where the tokens go.
struct Job {
    text: String,
    add_special: bool,
    reply: Sender<Result<Vec<u32>>>,
}

impl Tokens {
    /// Reads `tokenizer.json` of a checkpoint folder.
    ///
    /// # Errors
    /// A missing or invalid file, or a tokenizer beyond the bounds.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let tokenizer = Arc::new(read_tokenizer(folder)?);
        let added = tokenizer.get_added_tokens_decoder();
        let special =
            added.values().filter(|token| token.special).map(|token| token.content.clone()).collect();
        let longest = tokenizer.get_vocab(true).keys().map(String::len).max().unwrap_or(1);
        let (worker, jobs) = channel();
        let serving = Arc::clone(&tokenizer);
        let builder = std::thread::Builder::new().name("isr-tokenizer".to_owned()).stack_size(STACK_BYTES);
        let spawned = builder.spawn(move || serve(&serving, &jobs));
        spawned.map_err(|error| TorchError::Tokenizer(format!("no thread for it: {error}")))?;
        Ok(Self { tokenizer, worker, stuck: AtomicBool::new(false), special, longest })
    }

    /// Returns the added tokens that are not special, by their text.
    pub(super) fn ordinary_added(&self) -> BTreeSet<String> {
        let added = self.tokenizer.get_added_tokens_decoder();
        added.into_values().filter(|token| !token.special).map(|token| token.content).collect()
    }

    /// Returns the number of tokens.
    pub(super) fn count(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Returns the text of a token.
    pub(super) fn text(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// Returns the id of a token.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.tokenizer.token_to_id(text)
    }

    /// Returns the added token that a text begins with.
    pub(super) fn added_at_start(&self, text: &str) -> Option<u32> {
        let added = self.tokenizer.get_added_tokens_decoder();
        let found = added.into_iter().filter(|(_, token)| !token.content.is_empty());
        let found = found.filter(|(_, token)| text.starts_with(&token.content));
        found.max_by_key(|(_, token)| token.content.len()).map(|(id, _)| id)
    }

    /// Returns the whole tokenizer as JSON, for fingerprints.
    pub(super) fn json(&self) -> String {
        self.tokenizer.to_string(false).unwrap_or_else(|error| error.to_string())
    }

    /// Refuses text that `context` tokens cannot hold, before any work on it.
    ///
    /// # Errors
    /// Text of more bytes than that many of the longest tokens, and of more than 1 MiB.
    pub(super) fn check_length(&self, bytes: usize, context: usize) -> Result<()> {
        let limit = context.saturating_mul(self.longest).saturating_mul(2).max(1 << 20);
        match bytes > limit {
            true => Err(TorchError::Prompt(format!(
                "the text has {bytes} bytes; the model's context of {context} tokens cannot hold more than {limit}"
            ))),
            false => Ok(()),
        }
    }

    /// Tokenises a text, whose marks keep what they stand in from being special tokens.
    ///
    /// # Errors
    /// A tokenizer that fails or does not end, or one that has no other tokens for marked text.
    pub(super) fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let (reply, outcome) = channel();
        let job = Job { text: text.to_owned(), add_special, reply };
        let stopped = || TorchError::Tokenizer("it has stopped; an earlier text did not end".to_owned());
        if self.stuck.load(Ordering::Relaxed) || self.worker.send(job).is_err() {
            return Err(stopped());
        }
        for _ in 0..SECONDS {
            match outcome.recv_timeout(Duration::from_secs(1)) {
                Ok(ids) => return ids,
                Err(RecvTimeoutError::Disconnected) => return Err(stopped()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.stuck.store(true, Ordering::Relaxed);
        let bytes = text.len();
        Err(TorchError::Tokenizer(format!("it did not end within {SECONDS} s on a text of {bytes} bytes")))
    }

    /// Decodes tokens to text without special tokens.
    ///
    /// # Errors
    /// A decoder that fails.
    pub(super) fn decode(&self, ids: &[u32]) -> Result<String> {
        guarded(|| self.tokenizer.decode(ids, true))
    }
}

/// Tokenises texts until nobody is left to send one.
fn serve(tokenizer: &Tokenizer, jobs: &Receiver<Job>) {
    while let Ok(Job { text, add_special, reply }) = jobs.recv() {
        let outcome = match text.contains(MARK) {
            true => encode_marked(tokenizer, &text, add_special),
            false => guarded(|| Ok(tokenizer.encode_fast(text.as_str(), add_special)?.get_ids().to_vec())),
        };
        let _ = reply.send(outcome);
    }
}

/// Tokenises as [`Tokenizer::encode_fast`] does, and takes out the marks once special tokens have been found.
fn encode_marked(tokenizer: &Tokenizer, text: &str, add_special: bool) -> Result<Vec<u32>> {
    let added = tokenizer.get_added_vocabulary();
    let special: BTreeSet<u32> = tokenizer
        .get_added_tokens_decoder()
        .into_iter()
        .filter_map(|(id, token)| token.special.then_some(id))
        .collect();
    let mut forged = None;
    let ids = guarded(|| {
        let mut split = added.extract_and_normalize(tokenizer.get_normalizer(), text);
        split.normalize(|part| {
            part.filter(|character| character != MARK);
            Ok(())
        })?;
        if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut split)?;
        }
        let found = std::cell::Cell::new(None);
        split.tokenize(|part| {
            let tokens = tokenizer.get_model().tokenize(part.get())?;
            found.set(found.get().or(tokens.iter().map(|token| token.id).find(|id| special.contains(id))));
            Ok(tokens)
        })?;
        forged = found.get();
        let encoding = split.into_encoding(None, 0, OffsetType::None)?;
        Ok(tokenizer.post_process(encoding, None, add_special)?.get_ids().to_vec())
    })?;
    match forged {
        Some(id) => Err(TorchError::Prompt(format!(
            "the text contains the model's own `{}`, for which its tokenizer has no other tokens",
            tokenizer.id_to_token(id).unwrap_or_default()
        ))),
        None => Ok(ids),
    }
}

/// Calls the tokenizer; its errors and panics are errors of the tokenizer.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(|error| TorchError::Tokenizer(error.to_string())),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("it gave up");
            Err(TorchError::Tokenizer(text.to_owned()))
        }
    }
}

fn read_tokenizer(folder: &Path) -> Result<Tokenizer> {
    let path = folder.join("tokenizer.json");
    if !path.exists() {
        let remedy = match folder.join("tokenizer.model").exists() {
            true => {
                "is missing; convert tokenizer.model with transformers: \
                     AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
            }
            false => "is missing",
        };
        return Err(TorchError::checkpoint(path, remedy));
    }
    let refused = |reason: String| TorchError::checkpoint(&path, reason);
    let size = std::fs::metadata(&path).map_err(TorchError::io("read", &path))?.len();
    if size > MAX_FILE_BYTES {
        return Err(refused(format!("has {size} bytes, more than {MAX_FILE_BYTES}")));
    }
    let bytes = std::fs::read(&path).map_err(TorchError::io("read", &path))?;
    let parts: Parts = serde_json::from_slice(&bytes).map_err(|error| refused(error.to_string()))?;
    parts.check().map_err(refused)?;
    let mut tokenizer =
        guarded(|| Tokenizer::from_bytes(&bytes)).map_err(|error| refused(error.to_string()))?;
    // As transformers: a prompt is neither cut nor filled up, whatever the file says.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| refused(error.to_string()))?;
    Ok(tokenizer)
}

/// Parts of a tokenizer that may lengthen a text, or make it another one each time.
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    model: ModelPart,
}

#[derive(Default, Deserialize)]
struct ModelPart {
    #[serde(default)]
    dropout: Option<f64>,
}

impl Parts {
    fn check(&self) -> Result<(), String> {
        if self.model.dropout.is_some_and(|dropout| dropout > 0.0) {
            return Err(
                "has a dropout, so that a text has other tokens each time; set model.dropout to null"
                    .to_owned(),
            );
        }
        for (name, part) in [("normalizer", &self.normalizer), ("decoder", &self.decoder)] {
            let growth = growth(part)?;
            if growth > MAX_GROWTH {
                return Err(format!(
                    "its {name} lengthens texts {growth:.0} times; at most {MAX_GROWTH} are allowed"
                ));
            }
        }
        Ok(())
    }
}

/// Returns how many times longer the replacements of a part can make a text, all of them together.
fn growth(part: &Value) -> Result<f64, String> {
    let children = match part {
        Value::Array(list) => list.iter().collect::<Vec<_>>(),
        Value::Object(map) => map.values().collect(),
        _ => return Ok(1.0),
    };
    let mut product =
        children.into_iter().try_fold(1.0, |product, child| Ok::<_, String>(product * growth(child)?))?;
    if part["type"] == "Replace" {
        let content = part["content"].as_str().unwrap_or_default().len() as f64;
        product *= match &part["pattern"]["String"] {
            Value::String(text) if text.is_empty() => return Err("replaces an empty text".to_owned()),
            Value::String(text) => (content / text.len() as f64).max(1.0),
            _ => content + 1.0,
        };
    }
    if part["type"] == "Prepend" && part["prepend"].as_str().unwrap_or_default().len() > 64 {
        return Err("prepends more than 64 bytes".to_owned());
    }
    Ok(product)
}
