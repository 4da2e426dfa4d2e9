//! Preference pairs in the layouts of datasets and trainers.

use std::fs;
use std::path::{Path, PathBuf};

use isr_api::{BuildContext, Preference, Role, UnusableRow};
use isr_config::registry::PreferencesConfig;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::wait;

type Rows = Vec<Result<Preference, UnusableRow>>;

fn config(folder: &Path, section: &str) -> Box<dyn PreferencesConfig> {
    let text = format!("type = \"files\"\n{section}").replace("DIR", &folder.to_string_lossy());
    let value: Value = toml::from_str(&text).unwrap();
    serde_json::from_value(value).unwrap()
}

fn read(folder: &Path, section: &str) -> Result<Rows, String> {
    let config = config(folder, section);
    config.validate().unwrap();
    let rows = wait(config.build(&BuildContext::default()).unwrap().rows());
    rows.map_err(|error| error.to_string().replace(&*folder.to_string_lossy(), "DIR"))
}

/// A folder with rows as JSON lines, and media `a.mp4`, `b.mp4` and `c.png` in it.
fn folder_of(rows: &[Value]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.mp4", "b.mp4", "c.png"] {
        fs::write(folder.path().join(name), name).unwrap();
    }
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(folder.path().join("pairs.jsonl"), text).unwrap();
    folder
}

/// The rows of one file, in a layout that is detected.
fn detected(rows: &[Value]) -> (TempDir, Rows) {
    let folder = folder_of(rows);
    let read = read(folder.path(), "path = \"DIR/pairs.jsonl\"").unwrap();
    (folder, read)
}

/// Media's name, number of earlier turns, prompt, chosen, rejected.
fn texts(row: &Result<Preference, UnusableRow>) -> [String; 5] {
    let Preference { video, turns, prompt, chosen, rejected, .. } = row.as_ref().unwrap().clone();
    let name = video.map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
    [name.unwrap_or_default(), turns.len().to_string(), prompt, chosen, rejected]
}

fn said(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

#[test]
fn each_layout_is_detected_and_read() {
    let plain = json!({ "id": "x", "video": "a.mp4", "prompt": "<video>\nWho?", "answer": "no", "chosen": "A.", "rejected": "B." });
    let mut vista = plain.clone();
    vista["rejected_2"] = "C.".into();
    vista["bbox"] = "'x': 55.0".into();
    let rlaif = json!({ "question": "Who?", "chosen": "A.", "rejected": "B.", "image": { "path": "c.png", "bytes": null } });
    let rrpo = json!({
        "question": "<image>\nWho?", "answer": "A.", "pred": "B.", "answer_masked": "<MASK>", "sample_id": 4, "video": "a.mp4"
    });
    let swift = json!({
        "messages": [said("system", "Be short."), said("user", "<video>Who?"), said("assistant", "A.")],
        "rejected_response": "B.", "videos": ["a.mp4"]
    });
    let factory = json!({
        "conversations": [{ "from": "human", "value": "Hi" }, { "from": "gpt", "value": "Yes?" }, { "from": "human", "value": "Who?" }],
        "chosen": { "from": "gpt", "value": "A." }, "rejected": { "from": "gpt", "value": "B." }, "images": ["c.png"]
    });
    let trl = json!({ "prompt": "Who?", "chosen": "A.", "rejected": "B." });
    let chat = json!({
        "prompt": [{ "role": "user", "content": [{ "type": "image" }, { "type": "text", "text": "Who?" }] }],
        "chosen": [said("assistant", "A.")], "rejected": [said("assistant", "B.")], "images": ["c.png"]
    });
    for (row, media, turns) in [
        (plain, "a.mp4", "0"),
        (vista, "a.mp4", "0"),
        (rlaif, "c.png", "0"),
        (rrpo, "a.mp4", "0"),
        (swift, "a.mp4", "1"),
        (factory, "c.png", "2"),
        (trl, "", "0"),
        (chat, "c.png", "0"),
    ] {
        let (_folder, read) = detected(std::slice::from_ref(&row));
        let expected = [media, turns, "Who?", "A.", "B."].map(str::to_owned);
        assert_eq!(texts(&read[0]), expected, "{row}");
    }
}

#[test]
fn ids_and_origins_tell_where_a_pair_comes_from() {
    let row = json!({ "prompt": "Who?", "chosen": "A.", "rejected": "B.", "p_chosen": 0.75 });
    let mut named = row.clone();
    named["id"] = 12.into();
    let (folder, read) = detected(&[row, named]);
    let origin = |line: usize| format!("{}:{line}", folder.path().join("pairs.jsonl").display());
    let pairs: Vec<&Preference> = read.iter().map(|row| row.as_ref().unwrap()).collect();
    assert_eq!((pairs[0].id.clone(), pairs[0].origin.clone()), (origin(1), origin(1)));
    assert_eq!((pairs[1].id.as_str(), pairs[1].origin.clone()), ("12", origin(2)));
    assert_eq!(pairs[0].p_chosen, Some(0.75));
}

#[test]
fn rows_that_cannot_be_used_say_why_and_the_others_are_read() {
    let good = json!({ "video": "a.mp4", "prompt": "Who?", "chosen": "A.", "rejected": "B." });
    let with = |key: &str, value: Value| {
        let mut row = good.clone();
        row[key] = value;
        row
    };
    let mut lacking = good.clone();
    lacking.as_object_mut().unwrap().remove("rejected");
    let rows = [
        good.clone(),
        lacking,
        with("video", "gone.mp4".into()),
        with("rejected", " A. ".into()),
        with("chosen", " ".into()),
        with("chosen", "See <video> here.".into()),
        with("prompt", "Who is <image> that?".into()),
        with("video", json!(["a.mp4", "b.mp4"])),
        with("image", "c.png".into()),
        with("prompt", 3.into()),
        good.clone(),
    ];
    let folder = folder_of(&rows);
    let path = folder.path().join("pairs.jsonl");
    let text = fs::read_to_string(&path).unwrap().replace('\n', "\r\n") + "{\"prompt\": \r\n[1]\r\n";
    fs::write(&path, format!("\u{feff}{text}")).unwrap();
    let read = read(folder.path(), "path = \"DIR/pairs.jsonl\"\nlayout = \"llava_hound\"").unwrap();
    assert!(read[0].is_ok() && read[10].is_ok());
    let reasons = read.iter().filter_map(|row| row.as_ref().err());
    let reasons: Vec<String> =
        reasons.map(|row| row.to_string().replace(&*folder.path().to_string_lossy(), "DIR")).collect();
    insta::assert_snapshot!(reasons.join("\n"), @r"
    DIR/pairs.jsonl:2: `rejected` is missing
    DIR/pairs.jsonl:3: `video` names DIR/gone.mp4, which does not exist
    DIR/pairs.jsonl:4: `chosen` and `rejected` are the same text
    DIR/pairs.jsonl:5: `chosen` is empty
    DIR/pairs.jsonl:6: `chosen` has the marker `<video>` inside its text; one may stand before or behind the first question
    DIR/pairs.jsonl:7: `prompt` has the marker `<image>` inside its text; one may stand before or behind the first question
    DIR/pairs.jsonl:8: `video` has 2 entries, and DIR/a.mp4 is no frame (PNG or JPEG); one video or image is supported
    DIR/pairs.jsonl:9: it has both `video` and `image`; one video or image is supported
    DIR/pairs.jsonl:10: `prompt` is 3; expected a text
    DIR/pairs.jsonl:12: no valid JSON: EOF while parsing a value at line 1 column 10
    DIR/pairs.jsonl:13: it is no JSON object
    ");
}

#[test]
fn a_file_of_another_layout_is_told_by_name() {
    let swift =
        json!({ "messages": [said("user", "Who?"), said("assistant", "A.")], "rejected_response": "B." });
    let folder = folder_of(&[swift, json!({ "text": "Who?", "good": "A.", "rejected": "B." })]);
    let refused = |section: &str| read(folder.path(), section).unwrap_err();
    let wrong = refused("path = \"DIR/pairs.jsonl\"\nlayout = \"llama_factory\"");
    insta::assert_snapshot!(
        wrong,
        @r#"DIR/pairs.jsonl: no row is of layout `llama_factory`, which needs `conversations`, `chosen`, `rejected`; they are of layout = "ms_swift""#
    );
    let rows = fs::read_to_string(folder.path().join("pairs.jsonl")).unwrap();
    fs::write(folder.path().join("own.jsonl"), rows.lines().last().unwrap()).unwrap();
    insta::assert_snapshot!(
        refused("path = \"DIR/own.jsonl\""),
        @"DIR/own.jsonl: its rows, with `text`, `good`, `rejected`, are of no known layout; the nearest is `trl`, which also needs `chosen`; name their columns by `columns`"
    );
    let columns = "columns = { prompt = \"text\", chosen = \"good\" }";
    let mapped = read(folder.path(), &format!("path = \"DIR/own.jsonl\"\n{columns}")).unwrap();
    assert_eq!(texts(&mapped[0]), ["", "0", "Who?", "A.", "B."].map(str::to_owned));
}

#[test]
fn arrays_shards_and_lists_of_paths_are_one_set() {
    let row = |prompt: &str| json!({ "prompt": prompt, "chosen": "A.", "rejected": "B." });
    let folder = folder_of(&[row("one?")]);
    let shards = folder.path().join("shards");
    fs::create_dir(&shards).unwrap();
    fs::write(shards.join("b.json"), json!([row("three?"), row("four?")]).to_string()).unwrap();
    fs::write(shards.join("a.jsonl"), row("two?").to_string()).unwrap();
    fs::write(shards.join("dataset_info.json"), "{}").unwrap();
    let read_all = read(folder.path(), "path = [\"DIR/pairs.jsonl\", \"DIR/shards\"]").unwrap();
    let prompts: Vec<_> = read_all.iter().map(|row| row.as_ref().unwrap().prompt.clone()).collect();
    assert_eq!(prompts, ["one?", "two?", "three?", "four?"]);
    fs::write(shards.join("b.json"), "[{\"prompt\": \"three?\"}, {").unwrap();
    let broken = read(folder.path(), "path = \"DIR/shards\"").unwrap_err();
    assert!(broken.starts_with("DIR/shards/b.json:1: no valid JSON in this element"), "{broken}");
    fs::write(shards.join("b.json"), b"\xff\xfe[\0").unwrap();
    let utf_16 = read(folder.path(), "path = \"DIR/shards\"").unwrap_err();
    assert!(utf_16.contains("UTF-16"), "{utf_16}");
}

fn fixture(name: &str, rest: &str) -> Rows {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/preferences");
    read(&folder, &format!("path = \"DIR/{name}\"\n{rest}")).unwrap()
}

/// Files that `datasets` wrote; `tests/fixtures/preferences.py` made them.
#[test]
fn pictures_in_parquet_are_stored_once_and_read_again() {
    let media = tempfile::tempdir().unwrap();
    let section = format!("media_dir = {:?}", media.path().join("media"));
    let stored = |rows: &Rows| -> Vec<PathBuf> {
        rows.iter().map(|row| row.as_ref().unwrap().video.clone().unwrap()).collect()
    };
    let rows = fixture("rlaif_v.parquet", &section);
    let ids: Vec<_> = rows.iter().map(|row| row.as_ref().unwrap().id.as_str()).collect();
    assert_eq!(ids, ["7", "8"]);
    assert_eq!(texts(&rows[1])[2..], ["And this?", "A darker one.", "A cat."].map(str::to_owned));
    let files = stored(&rows);
    for file in &files {
        assert!(fs::read(file).unwrap().starts_with(b"\x89PNG") && file.extension().unwrap() == "png");
    }
    assert_ne!(files[0], files[1]);
    assert_eq!(stored(&fixture("rlaif_v.parquet", &section)), files);
    // The same picture of another file is the same file.
    assert_eq!(stored(&fixture("trl_vision.parquet", &section)), files[..1]);
    assert_eq!(fs::read_dir(media.path().join("media")).unwrap().count(), 2);
}

#[test]
fn a_list_of_images_under_video_is_a_folder_of_frames() {
    let frames = |names: &[&str]| json!({ "prompt": "Who?", "chosen": "A.", "rejected": "B.", "video": names, "id": names.join(" ") });
    let folder = folder_of(&[frames(&["d.jpg", "c.png", "d.jpg"]), frames(&["c.png", "a.mp4"])]);
    fs::write(folder.path().join("d.jpg"), "d").unwrap();
    let section = "path = \"DIR/pairs.jsonl\"\nmedia_dir = \"DIR/media\"";
    let rows = read(folder.path(), section).unwrap();
    let video = rows[0].as_ref().unwrap().video.clone().unwrap();
    let mut names: Vec<_> = fs::read_dir(&video).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["000000.jpg", "000001.png", "000002.jpg"]);
    assert_eq!(fs::read_to_string(video.join("000001.png")).unwrap(), "c.png");
    let reason = &rows[1].as_ref().unwrap_err().reason;
    assert!(
        reason.ends_with("a.mp4 is no frame (PNG or JPEG); one video or image is supported"),
        "{reason}"
    );
    assert_eq!(read(folder.path(), section).unwrap(), rows);
}

#[test]
fn the_prompt_is_the_one_that_trl_extracts() {
    let (implicit, explicit) = (fixture("trl_implicit.jsonl", ""), fixture("trl_explicit.parquet", ""));
    for (one, other) in implicit.iter().zip(&explicit) {
        assert_eq!(texts(one), texts(other));
    }
    let first = implicit[0].as_ref().unwrap();
    let roles: Vec<Role> = first.turns.iter().map(|turn| turn.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant]);
    assert_eq!((first.prompt.as_str(), first.rejected.as_str()), ("What is it?", "A dog."));
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let folder = folder_of(&[]);
    let invalid = |section: &str| config(folder.path(), section).validate().unwrap_err();
    assert!(invalid("path = \"DIR/pears.jsonl\"").contains("does not exist"));
    assert!(invalid("path = []").starts_with("path is empty"));
    assert!(invalid("path = \"DIR\"\nmedia_root = \"DIR/a.mp4\"").ends_with("which is no folder"));
    let both = "path = \"DIR\"\nlayout = \"trl\"\ncolumns = {}";
    assert!(invalid(both).starts_with("layout is set beside columns"));
}
