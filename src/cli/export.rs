//! `isr export`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clap::builder::PossibleValuesParser;
use isr_dpo::{Export, ExportError, ExportFormat as Format, Exported, write_export};

use super::failure::Unusable;
use super::output::print_line;
use super::session::Session;

/// Write the preference pairs of a run for other trainers
///
/// Formats: `trl` (conversational preference with a column `videos`, and by --frames `images`, which is
/// what TRL's DPO reads), `ms-swift` (messages, rejected_response, videos), `llama-factory` (ShareGPT preference,
/// with an entry in dataset_info.json beside FILE), `llava-hound` (as data `jsonl` reads it). All are JSON
/// lines; videos are named by absolute paths.
#[derive(Args)]
pub(super) struct ExportArgs {
    /// The run directory
    run: PathBuf,
    /// The form of the rows
    #[arg(long, value_parser = PossibleValuesParser::new(Format::ALL.map(Format::name)))]
    format: String,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Only this iteration [default: all]
    #[arg(long, value_name = "N")]
    iteration: Option<u32>,
    /// Write a pair of every verdict, those that selection dropped too
    #[arg(long)]
    unselected: bool,
    /// Write answers with the reasoning that was sampled before them: `reasoning_content` of the assistant's message for
    /// `trl`, `<think> ... </think>` before the answer for others
    #[arg(long)]
    reasoning: bool,
    /// Where the run's relative video paths start: the folder that it was started in
    #[arg(long, value_name = "DIR", default_value = ".")]
    video_root: PathBuf,
    /// Write the frames that the run saw of each video here, as PNG files that a column `images` names;
    /// for `trl`
    #[arg(long, value_name = "DIR")]
    frames: Option<PathBuf>,
}

impl ExportArgs {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        let format = Format::ALL.into_iter().find(|format| format.name() == self.format);
        let export = Export {
            // The parser lets no other name pass.
            format: format.unwrap_or(Format::LlavaHound),
            iteration: self.iteration,
            unselected: self.unselected,
            reasoning: self.reasoning,
            video_root: self.video_root.clone(),
        };
        let frames = self.frames.as_deref();
        let exported = session.block_on(write_export(&self.run, &export, &self.out, frames));
        let Exported { pairs, equal, placeholders, turns, unreadable } = exported.map_err(report)?;
        let mut line = format!("{}: {pairs} pair{}", self.out.display(), if pairs == 1 { "" } else { "s" });
        let left_out = [
            (equal, "with equal answers"),
            (placeholders, "with a placeholder for media"),
            (turns, "with earlier turns, which the format does not have"),
            (unreadable, "whose video cannot be read"),
        ];
        for (count, why) in left_out {
            if count > 0 {
                line.push_str(&format!(", {count} {why} left out"));
            }
        }
        print_line(line)
    }
}

/// What the arguments say cannot be used; the rest failed.
fn report(error: ExportError) -> anyhow::Error {
    match error {
        ExportError::Store(error) => error.into(),
        ExportError::NoResponses { .. } | ExportError::NoPairs { .. } => error.into(),
        _ => Unusable { message: error.to_string(), hint: None }.into(),
    }
}
