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

/// The videos of a request, by its place among all requests.
fn videos(bench: &Bench, request: usize) -> Vec<isr_api::VideoInput> {
    let asked = bench.echo.asked.lock().unwrap();
    let parts = asked[request].prompt.messages.iter().flat_map(|message| &message.parts);
    let video = |part: &Part| match part {
        Part::Video(video) => Some(video.clone()),
        Part::Text(_) => None,
    };
    parts.filter_map(video).collect()
}

#[tokio::test]
async fn images_that_follow_each_other_are_the_frames_of_a_video() {
    let bench = Bench::new(ServeOptions::default());
    let frame = |digit: u8| image(&data_url("image/png", &[b"\x89PNG-", &[digit][..]].concat()));
    let text = json!({ "type": "text", "text": "what?" });
    let content = json!([frame(1), frame(2), frame(1), text, frame(3)]);
    for _ in 0..2 {
        assert_eq!(bench.ask(&content).await.answer(), "0: be brief.\n<video>\nwhat?<video>\n");
    }
    let (first, again) = (videos(&bench, 0), videos(&bench, 1));
    assert_eq!(first[0].frames.timestamps, [0.0, 0.5, 1.0]);
    let last: Vec<u8> =
        (0..3).map(|index| *first[0].frames.frame(index).unwrap().last().unwrap()).collect();
    assert_eq!(last, [1, 2, 1]);
    assert_eq!(first[1].frames.timestamps, [0.0]);
    assert!(std::sync::Arc::ptr_eq(&first[0].frames, &again[0].frames), "known again");
    assert_eq!(bench.images.read.lock().unwrap().len(), 3, "each picture is decoded once");
}

#[tokio::test]
async fn a_url_may_stand_without_an_object_around_it() {
    let bench = Bench::new(ServeOptions::default());
    let url = data_url("image/png", b"\x89PNG-1");
    let part = json!({ "type": "image_url", "image_url": url });
    assert_eq!(bench.ask(&json!([part])).await.answer(), "0: be brief.\n<video>\n");
}

#[tokio::test]
async fn what_a_request_decodes_is_bounded() {
    let bench = Bench::new(ServeOptions { media_bytes: 2048, ..ServeOptions::default() });
    let clip = |letter: &str| video(&data_url("video/mp4", letter.repeat(300).as_bytes()));
    let (status, message) = bench.ask(&json!([clip("a"), clip("b"), clip("c")])).await.error();
    assert_eq!(status, 400);
    assert!(message.starts_with("the images and videos take more than"), "{message}");
    // What was held is free again.
    for _ in 0..5 {
        bench.ask(&json!([clip("a"), clip("b")])).await.answer();
    }
    let many: Value = std::iter::repeat_n(image("data:,"), 513).collect();
    let message = "the messages have 513 images and videos; at most 512 are taken";
    assert_eq!(bench.ask(&many).await.error(), (400, message.to_owned()));
}

#[tokio::test]
async fn what_requests_under_way_have_decoded_is_bounded() {
    let bench = Bench::new(ServeOptions { media_bytes: 2048, ..ServeOptions::default() });
    let content = |letter: &str| {
        let clip = video(&data_url("video/mp4", letter.repeat(500).as_bytes()));
        json!([clip, { "type": "text", "text": "hang" }])
    };
    let mut hanging = Vec::new();
    for (count, letter) in ["a", "b"].into_iter().enumerate() {
        let request = crate::fake::post(&crate::fake::question(&content(letter)));
        hanging.push(tokio::spawn(tower::ServiceExt::oneshot(bench.router.clone(), request)));
        while bench.echo.asked.lock().unwrap().len() <= count {
            tokio::task::yield_now().await;
        }
    }
    let clip = json!([video(&data_url("video/mp4", &[b'c'; 500]))]);
    assert_eq!(bench.ask(&clip).await.error().0, 429);
    for task in hanging {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    bench.ask(&clip).await.answer();
}

#[tokio::test]
async fn a_file_that_is_too_large_for_an_image_is_not_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large.png");
    // Sparse: it takes no space on disk.
    std::fs::File::create(&large).unwrap().set_len(6 << 30).unwrap();
    let allowed = vec![folder.path().to_owned()];
    let bench = Bench::new(ServeOptions { allowed, ..ServeOptions::default() });
    let reply = bench.ask(&json!([image(&format!("file://{}", large.display()))])).await;
    let message = "messages[0].content[0]: it has more than 64 MiB, which no image has";
    assert_eq!(reply.error(), (400, message.to_owned()));
    assert!(bench.images.read.lock().unwrap().is_empty());
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
