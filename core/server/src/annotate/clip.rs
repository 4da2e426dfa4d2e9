//! Serving of a pair's clip: a file with byte ranges, or frames of a folder.

use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use tower::ServiceExt;
use tower_http::services::ServeFile;

/// File extensions of frames.
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Replies with a file, or the requested byte range of it.
pub(crate) async fn file(path: &Path, request: Request) -> Response {
    match ServeFile::new(path).oneshot(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

/// Image files of a folder in the order of their names, as the video reader takes them; empty for a file.
pub(crate) fn frames(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_image(path)).collect();
    files.sort();
    files
}

fn is_image(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    !hidden && EXTENSIONS.contains(&extension.as_str())
}
