//! Folders of frame images.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::fs;
use std::path::Path;

use support::{encode, levels, reader, refusal, uniform};
use tempfile::{TempDir, tempdir};

fn image(folder: &Path, name: &str, size: (u32, u32), level: u8) {
    let file = fs::File::create(folder.join(name)).unwrap();
    let mut encoder = png::Encoder::new(file, size.0, size.1);
    encoder.set_color(png::ColorType::Rgb);
    let pixels = vec![level; size.0 as usize * size.1 as usize * 3];
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}

/// `frame-000.png` and so on, frame `i` of the gray level `i`.
fn folder(frames: u8) -> TempDir {
    let folder = tempdir().unwrap();
    for level in 0..frames {
        image(folder.path(), &format!("frame-{level:03}.png"), (16, 8), level);
    }
    folder
}

#[tokio::test]
async fn files_are_taken_by_name() {
    let folder = folder(30);
    let frames = uniform(8).read(folder.path()).await.unwrap();
    assert_eq!((frames.width, frames.height), (16, 8));
    assert_eq!(levels(&frames), [0, 4, 8, 12, 16, 20, 24, 29]);
    assert_eq!(frames.timestamps[..3], [0.0, 2.0, 4.0], "at 2 frames a second");
}

#[tokio::test]
async fn numbers_that_are_not_padded_are_numbers() {
    let numbered = tempdir().unwrap();
    for level in 1..=12 {
        image(numbered.path(), &format!("{level}.png"), (4, 4), level);
    }
    let expected: Vec<u8> = (1..=12).collect();
    assert_eq!(levels(&uniform(12).read(numbered.path()).await.unwrap()), expected);
    image(numbered.path(), "cover.png", (4, 4), 0);
    let message = refusal(&*uniform(5), numbered.path()).await;
    assert!(message.contains("12.png and ") && message.contains("pad the numbers"), "{message}");
}

#[tokio::test]
async fn names_sort_by_code_point() {
    let folder = tempdir().unwrap();
    for (level, name) in ["01.png", "10.png", "2.PNG", "B.png", "a.png"].iter().enumerate() {
        image(folder.path(), name, (4, 4), level as u8);
    }
    fs::remove_file(folder.path().join("2.PNG")).unwrap();
    assert_eq!(levels(&uniform(4).read(folder.path()).await.unwrap()), [0, 1, 3, 4]);
}

#[tokio::test]
async fn few_frames_repeat() {
    assert_eq!(levels(&uniform(8).read(folder(3).path()).await.unwrap()), [0, 0, 0, 0, 1, 1, 1, 2]);
}

#[tokio::test]
async fn the_other_rules_apply_as_documented() {
    let folder = folder(60);
    let whole = reader("sampling = { rule = \"first_seconds\", seconds = 1.0, frames = 3 }");
    assert_eq!(levels(&whole.read(folder.path()).await.unwrap()), [0, 29, 59]);
    let rate = reader("folder_fps = 20\nsampling = { rule = \"fps\", fps = 1.0 }");
    let frames = rate.read(folder.path()).await.unwrap();
    assert_eq!(levels(&frames), [0, 20, 40]);
    assert_eq!(frames.timestamps, [0.0, 1.0, 2.0]);
}

#[tokio::test]
async fn jpeg_is_read_and_other_files_are_not_frames() {
    let folder = tempdir().unwrap();
    encode(&folder.path().join("%02d.jpg"), (32, 16), &[0, 60, 120, 180, 240], "-q:v 1 -pix_fmt yuvj444p")
        .await;
    for other in ["readme.txt", "._00.jpg", "video.mp4"] {
        fs::write(folder.path().join(other), "no frame").unwrap();
    }
    fs::create_dir(folder.path().join("folder.png")).unwrap();
    let frames = uniform(5).read(folder.path()).await.unwrap();
    assert_eq!((frames.width, frames.height), (32, 16));
    for (index, expected) in [0, 60, 120, 180, 240].into_iter().enumerate() {
        let level = frames.frame(index).unwrap()[0];
        assert!(level.abs_diff(expected) <= 2, "frame {index} is {level}, not {expected}");
    }
}

#[tokio::test]
async fn the_image_of_another_size_is_named() {
    let folder = folder(20);
    image(folder.path(), "frame-009.png", (8, 8), 9);
    let message = refusal(&*uniform(2), folder.path()).await;
    assert!(
        message.contains("frame-009.png is 8x8 pixels, but the first frame of its folder is 16x8"),
        "{message}"
    );
}

#[tokio::test]
async fn damaged_images_are_named() {
    let png = folder(4);
    fs::write(png.path().join("frame-002.png"), b"").unwrap();
    let message = refusal(&*uniform(2), png.path()).await;
    assert!(message.contains("frame-002.png is damaged (the file is empty)"), "{message}");

    let jpeg = tempdir().unwrap();
    encode(&jpeg.path().join("%02d.jpg"), (64, 64), &[0, 60, 120], "-q:v 1 -pix_fmt yuvj420p").await;
    let last = jpeg.path().join("03.jpg");
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() - 20]).unwrap();
    let message = refusal(&*uniform(3), jpeg.path()).await;
    assert!(message.contains("03.jpg is damaged (the end of the image is missing)"), "{message}");
    assert_eq!(reader("allow_damaged = true").read(jpeg.path()).await.unwrap().len(), 8);
}

#[tokio::test]
async fn a_folder_without_enough_frames() {
    let empty = tempdir().unwrap();
    fs::write(empty.path().join("readme.txt"), "nothing").unwrap();
    let message = refusal(&*uniform(8), empty.path()).await;
    let path = empty.path().display();
    assert_eq!(message, format!("{path} holds no frames: expected .png, .jpg or .jpeg files"));
    let message = refusal(&*uniform(8), folder(1).path()).await;
    assert!(message.ends_with("has 1 frame, fewer than the 2 of `video.min_frames`"), "{message}");
}

/// Pictures of all sorts with the pixels that Pillow makes of them; `tests/fixtures/pictures.py` made both.
#[tokio::test]
async fn pictures_are_read_as_by_pillow() {
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    let one = reader("min_frames = 1\nsampling = { rule = \"uniform\", frames = 1 }");
    let mut count = 0;
    for entry in fs::read_dir(&pictures).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rgb") {
            continue;
        }
        let folder = tempdir().unwrap();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        let read = one.read(folder.path());
        let name = path.display();
        // A file alone is one frame, whatever the rule; a picture of no known name is left to ffmpeg.
        let alone = uniform(8).read(&path).await;
        match (alone, one.read(folder.path()).await) {
            (Ok(alone), Ok(frame)) => assert_eq!((alone.len(), &alone.rgb), (1, &frame.rgb), "{name}"),
            (alone, frame) => assert_eq!(alone.is_err(), frame.is_err(), "{name}"),
        }
        match fs::read(format!("{name}.rgb")) {
            Ok(expected) => {
                let frames = read.await.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(frames.rgb.len(), expected.len(), "{name}");
                let apart = frames.rgb.iter().zip(&expected).map(|(a, b)| f64::from(a.abs_diff(*b)));
                let (sum, worst) =
                    apart.fold((0.0, 0.0), |(sum, worst), it| (sum + it, f64::max(worst, it)));
                let mean = sum / expected.len() as f64;
                // libjpeg's and the decoder's interpolation of colours differ.
                assert!(mean < 1.0 && worst <= 32.0, "{name}: {mean} apart on average, {worst} at most");
            }
            Err(_) => assert!(read.await.is_err(), "{name} is refused by Pillow"),
        }
        count += 1;
    }
    assert!(count >= 25, "{count} pictures");
}

#[tokio::test]
async fn images_too_large_are_refused_by_their_header() {
    let message = refusal(&*reader("max_pixels = 127"), folder(4).path()).await;
    assert!(message.contains("frame-000.png have more than 127 pixels"), "{message}");
}
