//! Export of a run's preference pairs for other trainers: `isr export`.
//!
//! | format | read by | a row |
//! |---|---|---|
//! | `trl` | TRL: the conversational preference format with an explicit prompt | `prompt`, `chosen`, `rejected` as messages; `videos`, `images` |
//! | `ms-swift` | ms-swift `rlhf` | `messages` that end in the chosen answer, `rejected_response`, `videos` |
//! | `llama-factory` | LLaMA-Factory, `formatting: sharegpt` with `ranking: true` | `conversations`, `chosen`, `rejected`, `videos`; and an entry in `dataset_info.json` beside the file |
//! | `llava-hound` | LLaVA-Hound, and data `jsonl` of this project | `id`, `video`, `prompt`, `chosen`, `rejected` |
//!
//! All are JSON lines. The forms are those of TRL 1.16 (`dataset_formats`), ms-swift 4.6
//! (`swift/dataset/preprocessor`) and LLaMA-Factory 0.9.5 (`data/converter.py`). Videos are named by
//! absolute paths, so that a trainer may be started anywhere. TRL's `DPOTrainer` reads a column `images` and
//! no `videos` yet: with [`Pictures`], a row has the frames that the run saw there, as paths of PNG files.
//!
//! Answers are exported without the reasoning that was sampled and trained on before them, or with it
//! ([`Export::reasoning`]): for TRL as `reasoning_content` of the assistant's message, which chat templates of reasoning models
//! render (Qwen3, GLM-4.5) and TRL's own parsing of completions names; for the others in the text, as `<think>`, a newline, the
//! reasoning, a newline and `</think>` before an empty line, as ms-swift and LLaMA-Factory (`ReasoningTemplate`) write it.
//!
//! Pairs are those that the run trained on. Pairs that a trainer would refuse or misread are left out and counted: equal texts, and
//! texts with a media placeholder such as `<video>` where the format locates videos by it.

mod error;
mod format;
mod pairs;
mod pictures;

use std::fs;
use std::path::{Path, PathBuf};

use isr_run::store::write_atomic;
use serde_json::{Map, Value};

pub use error::ExportError;
pub use format::Format;
pub use pictures::Pictures;

use crate::export::format::LLAMA_FACTORY_COLUMNS;
use crate::export::pairs::Pair;

/// Options of an export.
#[derive(Clone, Debug)]
pub struct Export {
    /// Data format.
    pub format: Format,
    /// Iteration to export; `None` for all, in order.
    pub iteration: Option<u32>,
    /// Whether to include pairs that selection dropped, ordered by the judge's verdict.
    pub unselected: bool,
    /// Whether answers have the reasoning that their model wrote before them, where it did.
    pub reasoning: bool,
    /// Base of the run's relative video paths: the folder that the run was started in.
    pub video_root: PathBuf,
}

/// Counts of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Rows written.
    pub pairs: usize,
    /// Pairs left out because of equal texts or an undecided verdict.
    pub equal: usize,
    /// Pairs left out because a text has a media placeholder.
    pub placeholders: usize,
    /// Pairs left out because the format has no place for their earlier turns.
    pub turns: usize,
    /// Pairs left out because frames were requested and the video cannot be read.
    pub unreadable: usize,
}

impl Export {
    /// Writes the pairs of the run directory `run` to the file `out`, atomically. With `pictures`, frames are written first as PNG
    /// files, which `images` of each row lists (format `trl` only).
    ///
    /// # Errors
    /// [`ExportError::NotARun`], [`ExportError::NoIteration`] and [`ExportError::NoResponses`] for what the run lacks,
    /// [`ExportError::NoPairs`] for an empty result, [`ExportError::Name`], [`ExportError::NoPictures`] and
    /// [`ExportError::DatasetInfo`] for what the format does not allow, [`ExportError::Io`] and [`ExportError::Store`] for files.
    pub fn write(
        &self,
        run: &Path,
        out: &Path,
        pictures: Option<&Pictures<'_>>,
    ) -> Result<Exported, ExportError> {
        self.format.check_name(out)?;
        if pictures.is_some() && self.format != Format::Trl {
            return Err(ExportError::NoPictures { format: self.format.name() });
        }
        let pairs = pairs::read(run, self)?;
        let total = pairs.len();
        let different: Vec<Pair> = pairs.into_iter().filter(Pair::is_decided).collect();
        let equal = total - different.len();
        let clean: Vec<&Pair> = different.iter().filter(|pair| self.format.takes(pair)).collect();
        let placeholders = different.len() - clean.len();
        let usable: Vec<&Pair> =
            clean.iter().copied().filter(|pair| self.format.holds_turns(pair)).collect();
        let turns = clean.len() - usable.len();
        let rows = self.rows(&usable, pictures)?;
        if rows.is_empty() {
            return Err(ExportError::NoPairs { run: run.to_owned(), left_out: total });
        }
        let text: String = rows.iter().map(|row| row.to_string() + "\n").collect();
        if let Some(folder) = out.parent() {
            fs::create_dir_all(folder).map_err(|source| ExportError::io(folder, source))?;
        }
        write_atomic(out, text.as_bytes())?;
        if self.format == Format::LlamaFactory {
            register(out)?;
        }
        let unreadable = usable.len() - rows.len();
        Ok(Exported { pairs: rows.len(), equal, placeholders, turns, unreadable })
    }

    /// Rows, with `images` if pictures are requested.
    fn rows(&self, pairs: &[&Pair], pictures: Option<&Pictures<'_>>) -> Result<Vec<Value>, ExportError> {
        let row = |pair: &&Pair| self.format.row(pair);
        let Some(pictures) = pictures else { return Ok(pairs.iter().map(row).collect()) };
        let written = pictures.write(pairs.iter().copied().filter(|pair| !pair.video.is_empty()))?;
        let with_images = |pair: &&Pair| {
            if pair.video.is_empty() {
                return Some(row(pair));
            }
            let paths = written.of(pictures, pair)?;
            let mut row = self.format.row(pair);
            row["images"] = paths.into();
            Some(row)
        };
        Ok(pairs.iter().filter_map(with_images).collect())
    }
}

/// Adds the file to the `dataset_info.json` beside it. Other entries are kept.
fn register(out: &Path) -> Result<(), ExportError> {
    let path = out.with_file_name("dataset_info.json");
    let mut entries: Map<String, Value> = match isr_run::store::read_json(&path) {
        Ok(entries) => entries.unwrap_or_default(),
        Err(isr_api::Error::Damaged { reason, .. }) => {
            return Err(ExportError::DatasetInfo { path, reason });
        }
        Err(error) => return Err(error.into()),
    };
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let entry = serde_json::json!({
        "file_name": text(out.file_name()),
        "formatting": "sharegpt",
        "ranking": true,
        "columns": LLAMA_FACTORY_COLUMNS.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
    });
    entries.insert(text(out.file_stem()), entry);
    Ok(isr_run::store::write_json(&path, &entries)?)
}
