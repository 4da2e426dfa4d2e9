//! Question files, prediction files, and videos.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Result;
use isr_api::Error;
use isr_data::Rows;
use isr_questions::{Layout, Predictions, Questions, video_id};
use serde_json::Value;

use super::unusable;

/// Endings of video files that a question file may leave out.
const ENDINGS: [&str; 6] = ["mp4", "avi", "mkv", "mov", "webm", "gif"];

/// Name of what a path leads to: its last part up to the first dot, with what no folder's name may have replaced; of a
/// checkpoint or predictions with a general name, that of the folder around it.
pub(super) fn name_of(path: &Path) -> String {
    let named = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        let name = video_id(name).replace("{set}", "");
        let clean = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
        let name: String = name.chars().map(clean).collect();
        let general = ["", "checkpoint", "predictions", "inference_test"];
        (!general.contains(&name.trim_matches(['_', '-']))).then_some(name)
    };
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real.ancestors().find_map(named).unwrap_or_else(|| "model".to_owned())
}

/// Reads a question file.
pub(super) fn read_questions(path: &Path, layout: Option<Layout>) -> Result<Questions> {
    Questions::read(rows(path)?, layout).map_err(|error| unusable(path, &error))
}

/// Reads the predictions of a set.
pub(super) fn read_predictions(path: &Path, set: &str) -> Result<Predictions> {
    let path = PathBuf::from(path.to_string_lossy().replace("{set}", set));
    Predictions::read(rows(&path)?).map_err(|error| unusable(&path, &error))
}

fn rows(path: &Path) -> Result<impl Iterator<Item = (usize, Result<Value, String>)>> {
    let failed = |reason: String| Error::Config(format!("cannot read {}: {reason}", path.display()));
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let rows = Rows::open(file).map_err(|error| failed(error.to_string()))?;
    Ok(rows.map(|(line, row)| (line, row.map_err(|error| error.to_string()))))
}

/// Where a video of a question file is, below the folder of videos: at its path, or at its name alone.
pub(super) fn find_video(folder: &Path, video: &str) -> Result<PathBuf, String> {
    let name = video_id(video);
    let ending = |ending: &&str| folder.join(format!("{name}.{ending}"));
    let places = [folder.join(video), folder.join(name)].into_iter().chain(ENDINGS.iter().map(ending));
    let file = Path::new(video).file_name().map(|file| folder.join(file));
    let found = places.chain(file).find(|path| path.exists());
    found.ok_or_else(|| {
        format!("there is no video `{video}` in {}; set `videos` to its folder", folder.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_models_are_named_after_their_files() {
        for (path, name) in [
            ("data/msvd.qa.jsonl", "msvd"),
            ("runs/mine/iteration-09/checkpoint", "iteration-09"),
            ("theirs/predictions.{set}.jsonl", "theirs"),
            ("a b.json", "a_b"),
        ] {
            assert_eq!(name_of(Path::new(path)), name, "{path}");
        }
    }

    #[test]
    fn videos_are_found_as_question_files_of_others_name_them() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("v_1")).unwrap();
        std::fs::write(folder.path().join("v_2.mp4"), "").unwrap();
        let found = |video: &str| {
            find_video(folder.path(), video)
                .map(|path| path.strip_prefix(folder.path()).unwrap().to_owned())
        };
        for (video, place) in
            [("v_1", "v_1"), ("/data/frames/v_1", "v_1"), ("v_2", "v_2.mp4"), ("x/v_2.avi", "v_2.mp4")]
        {
            assert_eq!(found(video).unwrap(), Path::new(place), "{video}");
        }
        assert!(found("v_3").unwrap_err().contains("no video `v_3`"));
    }
}
