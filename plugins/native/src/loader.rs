//! The plugin loader for `.so`, `.dylib` and `.dll`.

use std::path::Path;
use std::sync::Arc;

use isr_api::Cause;
use isr_config::plugin::{Plugin, PluginFile, PluginLoader};
use isr_plugin::host::Library;
use isr_protocol::RemotePlugin;

use crate::isolated::program;
use crate::library::NativePlugin;
use crate::timeout::with_timeout;

/// Loads native libraries.
pub struct NativeLoader;

isr_config::register_loader!(&NativeLoader);

impl PluginLoader for NativeLoader {
    fn what(&self) -> &'static str {
        "native library"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["so", "dylib", "dll"]
    }

    fn options(&self) -> &'static [&'static str] {
        &["isolation", "call_s", "start_s", "memory_mb", "restarts"]
    }

    fn load(&self, path: &Path, options: &PluginFile) -> Result<Arc<dyn Plugin>, Cause> {
        // The system's loader maps what a file's headers say, and a read past its end kills the process.
        check_complete(path)?;
        if options.isolated() {
            return Ok(Arc::new(RemotePlugin::load(program(path, options)?, options)?));
        }
        if let Some(option) = only_isolated(options) {
            let text =
                format!("`{option}` cannot be held in this process; it needs isolation = \"process\"");
            return Err(text.into());
        }
        let (file, limit) = (path.to_owned(), options.start_limit());
        let library = with_timeout(limit, "load", move || Library::open(&file))??;
        Ok(Arc::new(NativePlugin::new(library, path, options)))
    }
}

/// The first given option that needs a process of its own.
fn only_isolated(options: &PluginFile) -> Option<&'static str> {
    let given = [("memory_mb", options.memory_mb.is_some()), ("restarts", options.restarts.is_some())];
    given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
}

/// Checks that an ELF file is as long as its headers say.
fn check_complete(path: &Path) -> Result<(), Cause> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    let mut header = [0_u8; 64];
    if file.read_exact(&mut header).is_err() {
        return Err(format!("it is no library: it has {length} bytes").into());
    }
    // Other formats and 32-bit files are the system's business.
    if header[..5] != *b"\x7fELF\x02" || header[5] != 1 {
        return Ok(());
    }
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte));
    let (table, size, count) = (number(&header[32..40]), number(&header[54..56]), number(&header[56..58]));
    let cut = || format!("it is cut off: its headers tell of more than its {length} bytes; copy it again");
    if size < 56 || table.saturating_add(size * count) > length {
        return Err(cut().into());
    }
    for index in 0..count {
        let mut segment = [0_u8; 56];
        file.seek(SeekFrom::Start(table + index * size))?;
        file.read_exact(&mut segment)?;
        if number(&segment[8..16]).saturating_add(number(&segment[32..40])) > length {
            return Err(cut().into());
        }
    }
    // Sections come last, and a copy that lacks some of them is no more to be trusted.
    let (sections, size, count) =
        (number(&header[40..48]), number(&header[58..60]), number(&header[60..62]));
    if sections.saturating_add(size * count) > length {
        return Err(cut().into());
    }
    Ok(())
}
