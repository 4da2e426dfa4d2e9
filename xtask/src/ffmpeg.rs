//! ffmpeg, the program that decodes and encodes video.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::pip::Pip;
use crate::process;

/// Carries a static build for Linux, so neither root nor a package manager is
/// needed.
const PACKAGE: &str = "imageio-ffmpeg==0.6.0";

const NO_FFMPEG: &str = "there is no ffmpeg with libx264; hint: install one (Debian, Ubuntu: \
     `apt-get install ffmpeg`) or set ISR_FFMPEG to one";

/// Makes sure that an ffmpeg which can encode H.264 and read transport streams
/// is where `isr` looks: `ISR_FFMPEG`, `.ffmpeg/ffmpeg` in the checkout, `PATH`,
/// in this order. The
/// static build comes before the system's: its frames are the same on every
/// machine, and it starts in a fifth of the time, which is most of what
/// decoding a short clip costs.
pub(crate) fn ensure_installed(root: &Path) -> Result<()> {
    if let Some(named) = env::var_os("ISR_FFMPEG").filter(|v| !v.is_empty()) {
        let named = PathBuf::from(named);
        check(&named).with_context(|| {
            format!("ISR_FFMPEG names {}; hint: name another one, or unset it", named.display())
        })?;
        println!("ffmpeg: using {} (from ISR_FFMPEG)", named.display());
        return Ok(());
    }
    let ours = root.join(".ffmpeg/ffmpeg");
    if check(&ours).is_ok() {
        println!("ffmpeg: .ffmpeg/ffmpeg is installed");
        return Ok(());
    }
    let Err(reason) = install(root, &ours) else {
        println!("ffmpeg: .ffmpeg/ffmpeg is ready");
        return Ok(());
    };
    check(Path::new("ffmpeg")).context(NO_FFMPEG)?;
    println!("ffmpeg: the static build cannot be installed ({reason:#}); using the one on PATH");
    Ok(())
}

/// Whether a program is an ffmpeg with the encoder that the synthetic videos
/// need, which also reads a transport stream.
fn check(program: &Path) -> Result<()> {
    let encoders = process::capture(Command::new(program).args(["-hide_banner", "-encoders"]))?;
    if !has_libx264(&encoders) {
        bail!("`{}` has no libx264 encoder", program.display());
    }
    let stream = env::temp_dir().join(format!("isr-ffmpeg-{}.ts", std::process::id()));
    let read = transport_stream(program, &stream);
    fs::remove_file(&stream).ok();
    read
}

/// Writes a transport stream and reads it, in the environment in which `isr`
/// runs ffmpeg (`core/ffmpeg/src/run.rs`): without the system's converters of
/// character sets, which crash a static build at the name of the service.
fn transport_stream(program: &Path, stream: &Path) -> Result<()> {
    let source = ["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=duration=0.5:size=64x64"];
    process::capture(Command::new(program).args(source).args(["-c:v", "libx264"]).arg(stream))?;
    let mut read = Command::new(program);
    read.args(["-nostdin", "-v", "error", "-i"]).arg(stream).args(["-f", "null", "-"]);
    process::capture(read.env("GCONV_PATH", "/nonexistent"))?;
    Ok(())
}

fn has_libx264(encoders: &str) -> bool {
    encoders.lines().any(|line| line.split_whitespace().nth(1) == Some("libx264"))
}

fn install(root: &Path, ours: &Path) -> Result<()> {
    let fresh = root.join(format!(".ffmpeg.tmp-{}", std::process::id()));
    Pip::find()?.install_into(&fresh, &["--no-deps", "--only-binary=:all:", PACKAGE])?;
    let found = binary_in(&fresh.join("imageio_ffmpeg/binaries"))?;
    check(&found)?;
    let home = root.join(".ffmpeg");
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    fs::rename(&found, ours).with_context(|| format!("cannot create {}", ours.display()))?;
    fs::remove_dir_all(&fresh).with_context(|| format!("cannot remove {}", fresh.display()))?;
    Ok(())
}

/// The package names its binary after platform and version.
fn binary_in(folder: &Path) -> Result<PathBuf> {
    fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ffmpeg-")))
        .with_context(|| format!("{PACKAGE} has no ffmpeg for this platform"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libx264_is_found_by_name_not_by_description() {
        assert!(has_libx264(" V....D libx264              libx264 H.264\n"));
        assert!(!has_libx264(" V....D h264_vaapi  like libx264\n V....D libx264rgb x\n"));
    }
}
