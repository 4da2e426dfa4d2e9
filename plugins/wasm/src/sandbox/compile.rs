//! Compilation, within bounds: the module may be hostile, and compiled code cannot be interrupted while it is made.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use wasmparser::{FunctionBody, Operator, Parser, Payload};
use wasmtime::component::Component;

use super::engine;
use crate::error::SandboxError;

/// Most bytes of a function.
const BODY: usize = 1 << 20;
/// Bound of a function's branches times its locals and depth of blocks: the compiler's time grows like that.
const COST: u64 = 20_000_000;

/// Compiles what `component` makes, on a thread of its own that is abandoned after `limit`.
pub(crate) fn compile(
    limit: Duration,
    component: impl FnOnce() -> Result<Vec<u8>, SandboxError> + Send + 'static,
) -> Result<Component, SandboxError> {
    let (send, done) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let compiled = component().and_then(|bytes| {
            check(&bytes)?;
            Component::new(engine()?, bytes).map_err(|error| {
                SandboxError::Module(format!("it cannot be compiled: {:#}", error.root_cause()))
            })
        });
        // Nobody may wait any more.
        let _ = send.send(compiled);
    });
    done.recv_timeout(limit).unwrap_or_else(|_| {
        let limit = limit.as_secs_f64();
        let text =
            format!("it could not be compiled within {limit} s; raise `start_s`, or make it smaller");
        Err(SandboxError::Module(text))
    })
}

/// Refuses functions that take the compiler too long.
fn check(bytes: &[u8]) -> Result<(), SandboxError> {
    let damaged = |error| SandboxError::Module(format!("it is damaged: {error}"));
    let mut index = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::CodeSectionEntry(body) = payload.map_err(damaged)? {
            let size = body.as_bytes().len();
            let cost = cost(&body).map_err(damaged)?;
            if size > BODY || cost > COST {
                return Err(SandboxError::Module(format!(
                    "its function {index}, of {size} bytes, has too many branches and variables to be \
                     compiled in time; split it"
                )));
            }
            index += 1;
        }
    }
    Ok(())
}

/// Branches times locals and depth.
fn cost(body: &FunctionBody<'_>) -> Result<u64, wasmparser::BinaryReaderError> {
    let mut locals = 0;
    for group in body.get_locals_reader()? {
        locals += u64::from(group?.0);
    }
    let (mut branches, mut depth, mut deepest) = (0_u64, 0_u64, 0_u64);
    for operator in body.get_operators_reader()? {
        match operator? {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                branches += 1;
                depth += 1;
                deepest = deepest.max(depth);
            }
            Operator::End => depth = depth.saturating_sub(1),
            Operator::Br { .. } | Operator::BrIf { .. } => branches += 1,
            Operator::BrTable { targets } => branches += u64::from(targets.len()) + 1,
            _ => {}
        }
    }
    Ok(branches.saturating_mul(locals.saturating_add(deepest)))
}
