//! What is downloaded, and how it goes on.

use std::fs;

use crate::hub;
use crate::server::{Fault, Manners, Server, TOKEN, etag};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const NEXT: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// A model of two shards with much beside them.
fn sharded(server: &Server, commit: &'static str, big: &[u8]) {
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
    let files: [(&str, &[u8]); 10] = [
        ("config.json", b"{}"),
        ("tokenizer.json", b"{\"t\": 1}"),
        ("chat_template.jinja", b"{{ messages }}"),
        ("README.md", b"# read"),
        ("model.safetensors.index.json", index),
        ("model-1.safetensors", b"first shard"),
        ("model-2.safetensors", big),
        ("consolidated.safetensors", b"the same again"),
        ("pytorch_model.bin", b"pickled"),
        (".gitattributes", b"x"),
    ];
    server.has("owner/name", commit, &files);
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 31 % 251) as u8).collect()
}

#[test]
fn what_a_model_needs_is_downloaded_once() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    sharded(&server, COMMIT, &bytes(5000));
    let folder = hub(&server, cache.path()).resolve("owner/name").unwrap();
    let mut names: Vec<String> =
        fs::read_dir(&folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected = [
        "chat_template.jinja",
        "config.json",
        "model-1.safetensors",
        "model-2.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ];
    assert_eq!(names, expected);
    assert_eq!(fs::read(folder.join("model-2.safetensors")).unwrap(), bytes(5000));
    let repository = cache.path().join("models--owner--name");
    assert_eq!(folder, repository.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    server.requests();
    assert_eq!(hub(&server, cache.path()).resolve("hf://owner/name").unwrap(), folder);
    let asked: Vec<String> = server.requests().into_iter().map(|it| it.path).collect();
    assert_eq!(asked, ["/api/models/owner/name/revision/main"], "the branch is looked up, and no more");
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_ended() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    sharded(&server, COMMIT, &bytes(200_000));
    server.cut("model-2.safetensors", &[70_000, 50_000]);
    let folder = hub(&server, cache.path()).resolve("owner/name").unwrap();
    assert_eq!(fs::read(folder.join("model-2.safetensors")).unwrap(), bytes(200_000));
    let requests = server.requests();
    let of_shard = requests.iter().filter(|it| it.path.ends_with("/store/owner/name/model-2.safetensors"));
    let ranges: Vec<_> = of_shard.filter_map(|it| it.range.as_deref()).collect();
    let data: Vec<_> = ranges.iter().filter(|range| **range != "bytes=0-0").collect();
    assert_eq!(data, [&"bytes=0-", &"bytes=70000-", &"bytes=120000-"]);
}

#[test]
fn another_process_goes_on_with_a_part() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    sharded(&server, COMMIT, &bytes(200_000));
    server.cut("model-2.safetensors", &[70_000]);
    let once = isr_torch::hub::Hub { attempts: 1, ..hub(&server, cache.path()) };
    let message = once.resolve("owner/name").unwrap_err().to_string();
    assert!(message.starts_with("cannot get model-2.safetensors of owner/name from http://"), "{message}");
    assert!(message.ends_with("the same command goes on with what was downloaded"), "{message}");
    server.requests();
    let folder = once.resolve("owner/name").unwrap();
    assert_eq!(fs::read(folder.join("model-2.safetensors")).unwrap(), bytes(200_000));
    let ranges: Vec<_> = server.requests().into_iter().filter_map(|it| it.range).collect();
    assert!(ranges.contains(&"bytes=70000-".to_owned()), "{ranges:?}");
}

#[test]
fn a_part_that_was_not_renamed_in_time_is_taken_as_it_is() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    let big = bytes(3000);
    sharded(&server, COMMIT, &big);
    let blobs = cache.path().join("models--owner--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let etag = etag("model-2.safetensors", &big);
    fs::write(blobs.join(format!("{etag}.part")), &big).unwrap();
    let longer = crate::server::etag("model-1.safetensors", b"first shard");
    fs::write(blobs.join(format!("{longer}.part")), "much longer than the first shard").unwrap();
    let folder = hub(&server, cache.path()).resolve("owner/name").unwrap();
    assert_eq!(fs::read(folder.join("model-2.safetensors")).unwrap(), big);
    assert_eq!(fs::read(folder.join("model-1.safetensors")).unwrap(), b"first shard");
}

#[test]
fn a_new_commit_downloads_what_changed() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    sharded(&server, COMMIT, b"second shard");
    let first = hub(&server, cache.path()).resolve("owner/name").unwrap();
    sharded(&server, NEXT, b"second shard, trained on");
    server.requests();
    let second = hub(&server, cache.path()).resolve("owner/name").unwrap();
    assert_ne!(first, second);
    assert_eq!(fs::read(second.join("model-2.safetensors")).unwrap(), b"second shard, trained on");
    assert_eq!(fs::read(first.join("model-2.safetensors")).unwrap(), b"second shard");
    assert_eq!(fs::read(second.join("model-1.safetensors")).unwrap(), b"first shard");
    let whole = server.requests().into_iter().filter(|it| {
        it.path.starts_with("/store/") && it.range.as_deref().is_some_and(|range| range != "bytes=0-0")
    });
    assert_eq!(whole.map(|it| it.path).collect::<Vec<_>>(), ["/store/owner/name/model-2.safetensors"]);
}

#[test]
fn a_commit_can_be_named() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    sharded(&server, COMMIT, b"second shard");
    let folder = hub(&server, cache.path()).resolve(&format!("owner/name@{COMMIT}")).unwrap();
    assert!(folder.ends_with(COMMIT));
}

#[test]
fn the_token_is_sent_to_the_hub_and_opens_what_is_gated() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    sharded(&server, COMMIT, b"second shard");
    server.gate("owner/name");
    let with_token = isr_torch::hub::Hub { token: Some(TOKEN.to_owned()), ..hub(&server, cache.path()) };
    assert!(with_token.resolve("owner/name").unwrap().join("config.json").exists());
    let (to_store, to_hub): (Vec<_>, Vec<_>) =
        server.requests().into_iter().partition(|it| it.path.starts_with("/store/"));
    assert!(to_hub.iter().all(|it| it.token.as_deref() == Some(TOKEN)));
    assert!(!to_store.is_empty() && to_store.iter().all(|it| it.token.is_none()), "{to_store:?}");
}

#[test]
fn mirrors_that_answer_in_other_ways_lose_no_byte() {
    for manners in [
        Manners { linked_size: true, ..Manners::default() },
        Manners { relative_redirect: true, ..Manners::default() },
    ] {
        for fault in [
            Fault::Unsatisfiable,
            Fault::OtherRange,
            Fault::Whole,
            Fault::OtherBytes,
            Fault::Hangup,
            Fault::Status("503 Service Unavailable"),
        ] {
            let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
            sharded(&server, COMMIT, &bytes(90_000));
            server.behave(manners);
            // The fault meets a download that goes on.
            server.cut("model-2.safetensors", &[40_000]);
            let once = isr_torch::hub::Hub { attempts: 1, ..hub(&server, cache.path()) };
            once.resolve("owner/name").unwrap_err();
            server.fail("model-2.safetensors", &[fault]);
            let folder = hub(&server, cache.path()).resolve("owner/name").unwrap();
            assert!(fs::read(folder.join("model-2.safetensors")).unwrap() == bytes(90_000));
        }
    }
}

#[test]
fn wrong_bytes_of_the_right_length_are_never_taken() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    sharded(&server, COMMIT, &bytes(5000));
    server.fail("model-1.safetensors", &[Fault::OtherBytes; 3]);
    let message = hub(&server, cache.path()).resolve("owner/name").unwrap_err().to_string();
    let expected = etag("model-1.safetensors", b"first shard");
    assert!(message.contains(&format!("but the hub names {expected}")), "{message}");
    let folder = hub(&server, cache.path()).resolve("owner/name").unwrap();
    assert_eq!(fs::read(folder.join("model-1.safetensors")).unwrap(), b"first shard");
}

#[test]
fn a_download_without_progress_ends_after_some_attempts() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    sharded(&server, COMMIT, &bytes(5000));
    for fault in [Fault::Hangup, Fault::Unsatisfiable, Fault::Status("500 Internal Server Error")] {
        server.fail("model-1.safetensors", &[fault; 20]);
        server.requests();
        let message = hub(&server, cache.path()).resolve("owner/name").unwrap_err().to_string();
        assert!(message.starts_with("cannot get model-1.safetensors of owner/name from"), "{message}");
        let asked = server.requests().into_iter().filter(|it| it.range.as_deref() == Some("bytes=0-"));
        assert_eq!(asked.filter(|it| it.path.starts_with("/store/")).count(), 3);
    }
}

#[cfg(unix)]
#[test]
fn a_link_whose_blob_is_gone_is_downloaded_again() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    sharded(&server, COMMIT, &bytes(5000));
    let folder = hub(&server, cache.path()).resolve("owner/name").unwrap();
    let blob = folder.join("model-2.safetensors").canonicalize().unwrap();
    fs::remove_file(blob).unwrap();
    hub(&server, cache.path()).resolve("owner/name").unwrap();
    assert_eq!(fs::read(folder.join("model-2.safetensors")).unwrap(), bytes(5000));
}
