//! Videos and images in requests.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use isr_api::Part;
use isr_server::openai::ServeOptions;
use serde_json::{Value, json};

use crate::fake::Bench;

fn image(url: &str) -> Value {
    json!({ "type": "image_url", "image_url": { "url": url, "detail": "low" } })
}

fn video(url: &str) -> Value {
    json!({ "type": "video_url", "video_url": { "url": url } })
}

fn data_url(kind: &str, bytes: &[u8]) -> String {
    format!("data:{kind};base64,{}", STANDARD.encode(bytes))
}

#[tokio::test]
async fn media_stand_where_they_were_and_are_read_by_their_kind() {
    let bench = Bench::new(ServeOptions::default());
    let png = data_url("image/png", b"\x89PNG-1");
    let webp = data_url("image/webp", b"RIFFwebp");
    let clip = data_url("video/mp4", b"ftypmp4");
    let content = json!([image(&png), image(&webp), video(&clip), { "type": "text", "text": "which?" }]);
    assert_eq!(bench.ask(&content).await.answer(), "0: be brief.\n<video>\n<video>\n<video>\nwhich?");
    let asked = bench.echo.asked.lock().unwrap();
    let widths: Vec<u32> = asked[0].prompt.messages[1]
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::Video(scene) => Some(scene.frames.width),
            Part::Text(_) => None,
        })
        .collect();
    assert_eq!(widths, [6, 8, 7], "bytes of each file");
    let images = bench.images.read.lock().unwrap();
    assert_eq!((images.len(), bench.videos.read.lock().unwrap().len()), (2, 1));
    assert!(images.iter().all(|path| !path.exists()), "nothing stays behind");
}

#[tokio::test]
async fn the_same_bytes_are_read_once_and_are_the_same_frames_in_memory() {
    let bench = Bench::new(ServeOptions::default());
    let url = data_url("video/mp4", b"clip");
    for _ in 0..2 {
        bench.ask(&json!([video(&url), { "type": "text", "text": "what?" }])).await.answer();
    }
    // As an image it is something else.
    bench.ask(&json!([image(&url)])).await.answer();
    assert_eq!((bench.videos.read.lock().unwrap().len(), bench.images.read.lock().unwrap().len()), (1, 1));
    let asked = bench.echo.asked.lock().unwrap();
    let frames: Vec<_> = asked
        .iter()
        .flat_map(|request| &request.prompt.messages)
        .flat_map(|message| &message.parts)
        .filter_map(|part| match part {
            Part::Video(scene) => Some(scene.frames.clone()),
            Part::Text(_) => None,
        })
        .collect();
    assert!(std::sync::Arc::ptr_eq(&frames[0], &frames[1]), "so that the policy knows them again");
}

#[tokio::test]
async fn files_are_read_where_their_folder_is_allowed_and_again_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4");
    std::fs::write(&clip, "one").unwrap();
    let url = format!("file://{}", clip.display());
    let closed = Bench::new(ServeOptions::default());
    let (status, message) = closed.ask(&json!([video(&url)])).await.error();
    assert_eq!(status, 400);
    assert!(
        message.starts_with("messages[0].content[0]: ") && message.contains("--allow-dir"),
        "{message}"
    );
    assert!(closed.videos.read.lock().unwrap().is_empty());

    let allowed = vec![folder.path().to_owned()];
    let bench = Bench::new(ServeOptions { allowed, ..ServeOptions::default() });
    for (text, reads) in [("one", 1), ("one", 1), ("other", 2)] {
        if reads == 2 {
            std::fs::write(&clip, text).unwrap();
        }
        bench.ask(&json!([video(&url)])).await.answer();
        assert_eq!(bench.videos.read.lock().unwrap().len(), reads);
    }
    bench.ask(&json!([image(&url)])).await.answer();
    assert_eq!(bench.images.read.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_bad_medium_is_named_by_its_place_and_not_by_our_files() {
    let bench = Bench::new(ServeOptions::default());
    let at = "messages[0].content[1]";
    for (part, message) in [
        (
            image("data:image/png,abc"),
            "messages[0].content[1]: this is no data URL: it must be base64: `data:image/png;base64,...`",
        ),
        (image("data:image/png;base64"), "messages[0].content[1]: this is no data URL: it has no comma"),
        (
            image("https://example.com/a.png"),
            "messages[0].content[1]: this server fetches nothing; send a data URL (`data:...;base64,...`), \
             or a `file:` URL in a folder of --allow-dir",
        ),
        (
            image(&data_url("image/png", b"\x89PNG damaged")),
            "messages[0].content[1]: it is damaged: fetch it again",
        ),
        (
            video(&data_url("video/mp4", b"damaged")),
            "messages[0].content[1]: it is damaged: fetch it again",
        ),
    ] {
        let reply = bench.ask(&json!([{ "type": "text", "text": "look:" }, part])).await;
        assert_eq!(reply.error(), (400, message.to_owned()));
        assert_eq!(reply.json()["error"]["param"], at);
    }
    let (status, message) = bench.ask(&json!([image("data:image/png;base64,####")])).await.error();
    assert!(status == 400 && message.contains("this is no data URL"), "{message}");
}
