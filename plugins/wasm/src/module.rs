//! Conversion of a file to a component.
//!
//! A component is taken as it is. A core module that exports what a world of `wit/isr.wit` asks for, by the
//! names of the canonical ABI, is wrapped here: so a compiler that writes WebAssembly is all that an author
//! needs.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::error::SandboxError;

const WIT: &str = include_str!("../wit/isr.wit");

/// Worlds, each with a function that only its modules export.
const WORLDS: [(&str, &str); 4] = [
    ("judge-plugin", "isr:plugin/judge@0.1.0#judge"),
    ("retrospector-plugin", "isr:plugin/retrospector@0.1.0#describe-video"),
    ("objective-plugin", "isr:plugin/objective@0.1.0#evaluate"),
    ("objective-by-name-plugin", "isr:plugin/objective-by-name@0.1.0#evaluate"),
];

/// The component in a file's bytes; a core module is wrapped.
pub(crate) fn component(bytes: Vec<u8>) -> Result<Vec<u8>, SandboxError> {
    if Parser::is_component(&bytes) {
        return Ok(bytes);
    }
    if !Parser::is_core_wasm(&bytes) {
        return Err(SandboxError::Module(
            "it is not WebAssembly; compile the plugin to a `.wasm` file".to_owned(),
        ));
    }
    let outline =
        Outline::of(&bytes).map_err(|error| SandboxError::Module(format!("it is damaged: {error}")))?;
    wrap(bytes, &outline).map_err(|reason| {
        SandboxError::Module(format!("it is a core module that cannot be made a component: {reason}"))
    })
}

/// What a core module exports.
#[derive(Default)]
struct Outline {
    exports: Vec<String>,
    /// Whether a binding generator has embedded the world's type.
    has_world: bool,
}

impl Outline {
    fn of(bytes: &[u8]) -> Result<Self, wasmparser::BinaryReaderError> {
        let mut outline = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ExportSection(exports) => {
                    for export in exports {
                        outline.exports.push(export?.name.to_owned());
                    }
                }
                Payload::CustomSection(section) => {
                    outline.has_world |= section.name().starts_with("component-type");
                }
                _ => {}
            }
        }
        Ok(outline)
    }
}

fn wrap(mut bytes: Vec<u8>, outline: &Outline) -> Result<Vec<u8>, String> {
    let chain = |error| format!("{error:#}");
    if !outline.has_world {
        let exports = |name: &str| outline.exports.iter().any(|export| export == name);
        let Some((world, _)) = WORLDS.iter().find(|(_, function)| exports(function)) else {
            let names: Vec<_> = WORLDS.iter().map(|(_, function)| format!("`{function}`")).collect();
            return Err(format!("it exports none of {}", names.join(", ")));
        };
        let mut resolve = Resolve::default();
        let package = resolve.push_str("isr.wit", WIT).map_err(|error| error.to_string())?;
        let world = resolve.select_world(&[package], Some(world)).map_err(|error| error.to_string())?;
        embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8).map_err(chain)?;
    }
    let adapter = (WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER);
    let encoder = ComponentEncoder::default().module(&bytes).map_err(chain)?;
    encoder.adapter(adapter.0, adapter.1).map_err(chain)?.validate(true).encode().map_err(chain)
}
