//! Exports with pictures: lends `isr-export` the frames of the run's own video config.

use std::path::Path;

use isr_analysis::export::{Export, ExportError, Exported, Pictures};
use isr_api::Frames;
use tokio::runtime::Handle;

use crate::report::video_reader;

/// Writes the preference pairs of `run` to the file `out`; with `frames`, a folder, also the frames that
/// the run saw of each video, for trainers that read no videos.
///
/// Blocks; call it outside of asynchronous code.
///
/// # Errors
/// See [`ExportError`].
pub fn write_export(
    run: &Path,
    export: &Export,
    out: &Path,
    frames: Option<&Path>,
    runtime: &Handle,
) -> Result<Exported, ExportError> {
    let reader = video_reader(run);
    let read =
        |video: &str| -> Option<Frames> { runtime.block_on(reader.as_ref()?.read(Path::new(video))).ok() };
    let pictures = frames.map(|dir| Pictures { dir, frames: &read });
    export.write(run, out, pictures.as_ref())
}
