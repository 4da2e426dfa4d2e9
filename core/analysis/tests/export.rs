//! A run directory made by hand, in every format.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::fs;
use std::path::Path;

use isr_analysis::export::{Export, Exported, Format, Pictures};
use isr_api::Frames;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Two iterations; in the first one of three verdicts is dropped, and one is between equal answers.
fn run() -> TempDir {
    let run = tempfile::tempdir().unwrap();
    let response = |text: &str| json!({"text": text, "token_ids": [1], "logprobs": [-0.5], "finish_reason": "stop", "policy": "f"});
    let responses = |id: &str, first: &str, second: &str| {
        json!({
            "sample": id, "video": format!("clips/{id}.mp4"), "instruction": "what?", "seed": 1,
            "responses": [response(first), response(second)],
        })
    };
    let verdict = |id: &str, p_first: f64| {
        json!({
            "sample": id, "seed": 1, "context": null, "compared": [0, 1],
            "verdict": {"p_first": p_first, "votes": [], "consistent": true},
        })
    };
    let pair = |id: &str, chosen: &str, rejected: &str| {
        json!({
            "id": id, "video": format!("clips/{id}.mp4"), "prompt": "what?", "chosen": chosen,
            "rejected": rejected, "chosen_index": 0, "rejected_index": 1, "p_chosen": 0.75,
        })
    };
    let write = |name: &str, lines: &[Value]| {
        let path = run.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(path, text).unwrap();
    };
    write("iteration-00/evaluation.jsonl", &[]);
    let answers = [responses("a", "red", "blue"), responses("b", "one", "two"), responses("c", "x", "x")];
    write("iteration-01/responses.jsonl", &answers);
    let verdicts = [verdict("a", 0.75), verdict("b", 0.25), verdict("c", 0.5)];
    write("iteration-01/verdicts.jsonl", &verdicts);
    write("iteration-01/pairs.jsonl", &[pair("a", "red", "blue")]);
    write(
        "iteration-02/pairs.jsonl",
        &[pair("a", "red <video>", "blue"), pair("b", "\"one\"\n", "zwei ü")],
    );
    run
}

fn export(format: Format) -> Export {
    Export { format, iteration: None, unselected: false, reasoning: false, video_root: "/data".into() }
}

fn rows(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn first_row(format: Format) -> Value {
    let run = run();
    let out = run.path().join("out.jsonl");
    let exported = Export { iteration: Some(1), ..export(format) }.write(run.path(), &out, None).unwrap();
    assert_eq!(exported, Exported { pairs: 1, equal: 0, placeholders: 0, turns: 0, unreadable: 0 });
    rows(&out).remove(0)
}

#[test]
fn trl_gets_messages_and_a_column_of_videos() {
    let expected = json!({
        "prompt": [{"role": "user", "content": "what?"}],
        "chosen": [{"role": "assistant", "content": "red"}],
        "rejected": [{"role": "assistant", "content": "blue"}],
        "videos": ["/data/clips/a.mp4"],
    });
    assert_eq!(first_row(Format::Trl), expected);
}

#[test]
fn ms_swift_gets_messages_that_end_in_the_chosen_answer() {
    let expected = json!({
        "messages": [
            {"role": "user", "content": "<video>\nwhat?"},
            {"role": "assistant", "content": "red"},
        ],
        "rejected_response": "blue",
        "videos": ["/data/clips/a.mp4"],
    });
    assert_eq!(first_row(Format::MsSwift), expected);
}

#[test]
fn llama_factory_gets_a_conversation_without_its_answer() {
    let expected = json!({
        "conversations": [{"from": "human", "value": "<video>\nwhat?"}],
        "chosen": {"from": "gpt", "value": "red"},
        "rejected": {"from": "gpt", "value": "blue"},
        "videos": ["/data/clips/a.mp4"],
    });
    assert_eq!(first_row(Format::LlamaFactory), expected);
}

#[test]
fn llava_hound_gets_its_own_layout() {
    let expected = json!({
        "id": "a-t1-0-1", "video": "/data/clips/a.mp4", "prompt": "what?", "chosen": "red",
        "rejected": "blue", "p_chosen": 0.75,
    });
    assert_eq!(first_row(Format::LlavaHound), expected);
}

#[test]
fn all_iterations_come_in_order_and_any_text_survives() {
    let run = run();
    let out = run.path().join("a/new/folder/out.jsonl");
    let exported = export(Format::LlavaHound).write(run.path(), &out, None).unwrap();
    assert_eq!(exported.pairs, 3);
    let rows = rows(&out);
    let ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a-t1-0-1", "a-t2-0-1", "b-t2-0-1"]);
    assert_eq!((&rows[2]["chosen"], &rows[2]["rejected"]), (&json!("\"one\"\n"), &json!("zwei ü")));
}

#[test]
fn a_text_that_would_be_taken_for_a_video_is_left_out_and_counted() {
    for format in [Format::MsSwift, Format::LlamaFactory] {
        let run = run();
        let exported = export(format).write(run.path(), &run.path().join("out.json"), None).unwrap();
        assert_eq!(exported, Exported { pairs: 2, equal: 0, placeholders: 1, turns: 0, unreadable: 0 });
    }
}

#[test]
fn unselected_pairs_follow_the_verdicts() {
    let run = run();
    let out = run.path().join("out.jsonl");
    let all = Export { unselected: true, iteration: Some(1), ..export(Format::LlavaHound) };
    let exported = all.write(run.path(), &out, None).unwrap();
    assert_eq!(exported, Exported { pairs: 2, equal: 1, placeholders: 0, turns: 0, unreadable: 0 });
    let row = rows(&out).remove(1);
    assert_eq!(
        (&row["id"], &row["chosen"], &row["p_chosen"]),
        (&json!("b-t1-1-0"), &json!("two"), &json!(0.75))
    );
}

#[test]
fn llama_factorys_list_gets_an_entry_and_keeps_the_others() {
    let run = run();
    let list = run.path().join("dataset_info.json");
    fs::write(&list, r#"{"other": {"file_name": "other.json"}}"#).unwrap();
    export(Format::LlamaFactory).write(run.path(), &run.path().join("mine.jsonl"), None).unwrap();
    let entries: Value = serde_json::from_str(&fs::read_to_string(&list).unwrap()).unwrap();
    let expected = json!({
        "other": {"file_name": "other.json"},
        "mine": {
            "file_name": "mine.jsonl", "formatting": "sharegpt", "ranking": true,
            "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "videos": "videos"},
        },
    });
    assert_eq!(entries, expected);
    fs::write(&list, "[]").unwrap();
    let outcome = export(Format::LlamaFactory).write(run.path(), &run.path().join("mine.jsonl"), None);
    let message = outcome.unwrap_err().to_string();
    assert!(message.contains("cannot add to ") && message.contains("dataset_info.json"), "{message}");
}

#[test]
fn what_cannot_be_exported_is_named() {
    let run = run();
    let out = run.path().join("out.jsonl");
    let said =
        |export: Export, run: &Path, out: &Path| export.write(run, out, None).unwrap_err().to_string();
    let hound = export(Format::LlavaHound);
    let message = said(hound.clone(), &run.path().join("iteration-01"), &out);
    assert!(message.contains("is not a run directory: it has no `iteration-01`"), "{message}");
    let message = said(Export { iteration: Some(7), ..hound.clone() }, run.path(), &out);
    assert!(message.contains("has no pairs of iteration 7; it has those of 1, 2"), "{message}");
    let message = said(export(Format::MsSwift), run.path(), &run.path().join("out.txt"));
    assert!(message.contains("ms-swift reads files that end in `.jsonl` or `.json`"), "{message}");
    let all = Export { unselected: true, iteration: Some(1), ..hound.clone() };
    fs::write(run.path().join("iteration-01/responses.jsonl"), "").unwrap();
    let message = said(all, run.path(), &out);
    assert!(message.contains("no two answers of sample `a`"), "{message}");
    fs::write(run.path().join("iteration-01/pairs.jsonl"), "").unwrap();
    let message = said(Export { iteration: Some(1), ..hound }, run.path(), &out);
    assert!(message.contains("has no pairs to export; 0 were left out"), "{message}");
    assert!(!out.exists());
}

#[test]
fn trl_gets_the_frames_as_pictures_where_they_can_be_read() {
    let run = run();
    let (out, dir) = (run.path().join("out.jsonl"), run.path().join("frames"));
    let rgb: Vec<u8> = (0..2 * 2 * 3 * 2).collect();
    let frames = |video: &Path, _: &str, _: u32| {
        let frames = Frames {
            width: 2,
            height: 3,
            rgb: [rgb.clone(), rgb[..12].to_vec()].concat(),
            timestamps: vec![0.0, 1.0],
            duration: 2.0,
        };
        video.ends_with("a.mp4").then_some(frames)
    };
    let pictures = Pictures { dir: &dir, frames: &frames, by_iteration: false };
    let exported = export(Format::Trl).write(run.path(), &out, Some(&pictures)).unwrap();
    assert_eq!(exported, Exported { pairs: 2, equal: 0, placeholders: 0, turns: 0, unreadable: 1 });
    let row = rows(&out).remove(0);
    let images = row["images"].as_array().unwrap();
    assert_eq!((images.len(), &row["videos"]), (2, &json!(["/data/clips/a.mp4"])));
    let path = Path::new(images[0].as_str().unwrap());
    assert!(path.is_absolute() && path.ends_with("00.png"), "{}", path.display());
    let mut reader =
        png::Decoder::new(std::io::BufReader::new(fs::File::open(path).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    assert_eq!(pixels, rgb[..18]);
    let refused = export(Format::MsSwift).write(run.path(), &out, Some(&pictures)).unwrap_err();
    assert_eq!(refused.to_string(), "ms-swift reads videos; leave out --frames, which is for trl");
}

#[test]
fn pairs_of_drawn_frames_have_those_of_their_iteration() {
    let run = run();
    let (out, dir) = (run.path().join("out.jsonl"), run.path().join("frames"));
    // The same video in both iterations, whose frame says which it was asked for.
    let second = fs::read_to_string(run.path().join("iteration-02/pairs.jsonl")).unwrap();
    fs::write(run.path().join("iteration-02/pairs.jsonl"), second.replace("clips/b", "clips/a")).unwrap();
    let frames = |path: &Path, name: &str, iteration: u32| {
        assert_eq!((path, name), (Path::new("/data/clips/a.mp4"), "clips/a.mp4"));
        Frames::new(1, 1, vec![iteration as u8; 3], vec![0.0]).ok()
    };
    let pictures = Pictures { dir: &dir, frames: &frames, by_iteration: true };
    export(Format::Trl).write(run.path(), &out, Some(&pictures)).unwrap();
    let images: Vec<String> =
        rows(&out).iter().map(|row| row["images"][0].as_str().unwrap().to_owned()).collect();
    assert_eq!(images.len(), 3);
    for (image, iteration) in images.iter().zip([1, 2, 2]) {
        assert!(image.ends_with(&format!("-t{iteration}/00.png")), "{image}");
        let file = std::io::BufReader::new(fs::File::open(image).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut pixel = [0; 3];
        reader.next_frame(&mut pixel).unwrap();
        assert_eq!(pixel, [iteration; 3]);
    }
}

#[test]
fn reasoning_is_exported_where_it_is_asked_for() {
    let run = run();
    let path = run.path().join("iteration-01/responses.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let with =
        text.replacen(r#""text":"red""#, r#""text":"red","reasoning":{"text":"a bar","tokens":1}"#, 1);
    assert_ne!(text, with);
    fs::write(&path, with).unwrap();
    let out = run.path().join("out.jsonl");
    let row = |format, reasoning, unselected| {
        let export = Export { iteration: Some(1), reasoning, unselected, ..export(format) };
        export.write(run.path(), &out, None).unwrap();
        rows(&out).remove(0)
    };
    for unselected in [false, true] {
        let trl = row(Format::Trl, true, unselected);
        let chosen = json!([{"role": "assistant", "content": "red", "reasoning_content": "a bar"}]);
        assert_eq!(trl["chosen"], chosen);
        assert_eq!(trl["rejected"], json!([{"role": "assistant", "content": "blue"}]));
        assert_eq!(
            row(Format::Trl, false, unselected)["chosen"],
            json!([{"role": "assistant", "content": "red"}])
        );
    }
    let inline = "<think>\na bar\n</think>\n\nred";
    assert_eq!(row(Format::MsSwift, true, false)["messages"][1]["content"], inline);
    assert_eq!(row(Format::LlamaFactory, true, false)["chosen"]["value"], inline);
    let hound = row(Format::LlavaHound, true, false);
    assert_eq!((&hound["chosen"], &hound["rejected"]), (&inline.into(), &"blue".into()));
}
