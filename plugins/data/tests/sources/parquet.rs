//! Parquet files as pyarrow writes them; `tests/fixtures/make.py` made them.

use std::path::{Path, PathBuf};

use isr_config::registry::DataConfig;

use crate::support;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn list(file: &str, rest: &str) -> String {
    format!("type = \"parquet\"\ntraining = \"DIR/{file}\"\n{rest}")
}

fn training(file: &str, rest: &str) -> Result<Vec<(String, String, String)>, String> {
    let samples = support::training(&fixtures(), &list(file, rest))?;
    let texts = samples.into_iter().map(|it| (it.id.0, isr_api::video_key(&it.video), it.instruction));
    Ok(texts.collect())
}

fn owned(rows: &[[&str; 3]]) -> Vec<(String, String, String)> {
    rows.iter().map(|[id, video, text]| (id.to_string(), video.to_string(), text.to_string())).collect()
}

const CHAT: &str = "video_root = \"root\"\ncolumns = { id = \"key\", video = \"video.path\", \
                    instruction = \"messages.0.content\", answer = \"messages.1.content\" }";

#[test]
fn a_table_in_llava_hounds_layout_is_read() {
    let rows = [["a", "root/v/1", "one?"], ["b", "root/v/1", "two?"], ["c", "root/v/2", "three?"]];
    assert_eq!(training("hound/train.parquet", "video_root = \"root\""), Ok(owned(&rows)));
    let toml = list("hound/train.parquet", "evaluation = \"DIR/hound/train.parquet\"");
    let answers = support::evaluation(&fixtures(), &toml).unwrap();
    let answers: Vec<_> = answers.iter().map(|it| it.reference.as_str()).collect();
    assert_eq!(answers, ["1", "2", "3"]);
}

#[test]
fn a_folder_of_shards_is_one_list_and_columns_go_into_structs() {
    let rows = [["10", "root/0.mp4", "q0"], ["11", "root/1.mp4", "q1"], ["12", "root/2.mp4", "q2"]];
    assert_eq!(training("shards", CHAT), Ok(owned(&rows)));
    let whole = CHAT.replace("video.path", "video").replace("id = \"key\", ", "");
    let numbered = training("shards", &whole).unwrap();
    assert_eq!(numbered.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
    let answers =
        support::evaluation(&fixtures(), &list("shards", &format!("{CHAT}\nevaluation = \"DIR/shards\"")));
    assert_eq!(answers.unwrap()[2].reference, "a2");
}

#[test]
fn a_column_that_is_not_there_is_named_before_any_row() {
    for (from, to, message) in [
        ("\"key\"", "\"kex\"", "there is no column `kex`; did you mean `key`?"),
        ("\"key\"", "\"zzzzzz\"", "there is no column `zzzzzz`; there are `key`, `video`, `messages`"),
    ] {
        let outcome = training("shards", &CHAT.replace(from, to));
        assert_eq!(outcome, Err(format!("DIR/shards/train-00000-of-00002.parquet: {message}")));
    }
    let deeper = CHAT.replace("messages.0.content", "messages.7.content");
    let message = training("shards", &deeper).unwrap_err();
    assert!(message.contains("00002.parquet, row 1: there is no column `messages.7.content`"), "{message}");
}

#[test]
fn videos_inside_the_table_are_stored_as_files() {
    let folder = tempfile::tempdir().unwrap();
    let media_dir = format!("media_dir = {:?}", folder.path().join("media"));
    let samples = support::training(&fixtures(), &list("embedded.parquet", &media_dir)).unwrap();
    let video = &samples[0].video;
    assert!(video.starts_with(folder.path()) && video.extension().unwrap() == "mp4", "{}", video.display());
    assert_eq!(std::fs::read(video).unwrap(), b"\x00\x00\x00\x18ftyp\xff");
    // A path beside the bytes is taken where there is a file, and else is the name that the video once had.
    std::fs::remove_dir_all(folder.path().join("media")).unwrap();
    std::fs::write(folder.path().join("10.png"), "a picture").unwrap();
    let pictures = list("preferences/rlaif_v.parquet", &media_dir);
    let columns = "columns = { video = \"image\", instruction = \"question\", answer = \"chosen\" }";
    let root = format!("video_root = {:?}", folder.path());
    let samples = support::training(&fixtures(), &format!("{pictures}\n{root}\n{columns}")).unwrap();
    assert_eq!(samples[0].video, folder.path().join("10.png"));
    let samples = support::training(&fixtures(), &format!("{pictures}\n{columns}")).unwrap();
    assert!(samples[0].video.starts_with(folder.path().join("media")) && samples[0].video.is_file());
}

#[test]
fn frames_inside_the_table_are_a_folder_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let columns = "columns = { video = \"frames\", instruction = \"question\" }";
    let section = format!("media_dir = {:?}\n{columns}", folder.path().join("media"));
    let read =
        || support::training(&fixtures(), &list("frames.parquet", &section)).unwrap()[0].video.clone();
    let video = read();
    assert!(video.starts_with(folder.path()), "{}", video.display());
    let frame = |name: &str| std::fs::read(video.join(name)).unwrap();
    assert_eq!(
        (frame("000000.png"), frame("000001.png")),
        (b"\x89PNG second".to_vec(), b"\x89PNG first\xff".to_vec())
    );
    assert_eq!(read(), video, "stored once");
}

#[test]
fn a_row_without_what_it_needs_is_named() {
    let rows = training("holes.parquet", "video_root = \"\"").unwrap();
    assert_eq!(rows, owned(&[["1", "1", "q"], ["2", "2", "r"]]));
    let toml = list("holes.parquet", "evaluation = \"DIR/holes.parquet\"");
    let message = support::evaluation(&fixtures(), &toml).unwrap_err();
    assert!(message.starts_with("DIR/holes.parquet: sample `2` has no `answer`"), "{message}");
}

#[test]
fn what_is_no_table_is_refused() {
    let folder = support::folder_with("{}");
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let bytes = std::fs::read(fixtures().join("holes.parquet")).unwrap();
    std::fs::write(folder.path().join("cut.parquet"), &bytes[..bytes.len() / 2]).unwrap();
    for (file, start) in [
        ("train.jsonl", "cannot read DIR/train.jsonl as Parquet: "),
        ("cut.parquet", "cannot read DIR/cut.parquet as Parquet: "),
        ("none.parquet", "cannot read DIR/none.parquet: "),
        ("empty", "DIR/empty holds no `.parquet` file"),
    ] {
        let message = support::training(folder.path(), &list(file, "")).unwrap_err();
        assert!(message.starts_with(start), "{message}");
    }
    let config: Box<dyn DataConfig> = support::config(folder.path(), &list("none.parquet", ""));
    assert!(config.validate().unwrap_err().contains("none.parquet, which does not exist"));
}

#[test]
fn a_damaged_table_is_an_error_and_never_a_panic() {
    let bytes = std::fs::read(fixtures().join("hound/train.parquet")).unwrap();
    let folder = support::folder_with("");
    let file = folder.path().join("damaged.parquet");
    let mut errors = 0;
    for place in (0..bytes.len()).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x55;
        std::fs::write(&file, damaged).unwrap();
        if let Err(message) = support::training(folder.path(), &list("damaged.parquet", "")) {
            assert!(!message.contains("panicked"), "byte {place}: {message}");
            assert!(message.contains("DIR/damaged.parquet"), "byte {place}: {message}");
            errors += 1;
        }
    }
    assert!(errors > bytes.len() / 30, "{errors} faults are noticed");
}
