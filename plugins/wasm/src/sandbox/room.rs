//! The memory of an instance, over all its memories and tables.

use wasmtime::ResourceLimiter;

/// Most memories of an instance.
const MEMORIES: usize = 64;
/// Most tables of an instance.
const TABLES: usize = 256;
/// Most modules that are instantiated in it.
const INSTANCES: usize = 256;
/// Bytes of a table's element.
const ELEMENT: usize = 16;

/// Counts what an instance takes.
pub(crate) struct Room {
    limit: usize,
    taken: usize,
    refused: bool,
}

impl Room {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, taken: 0, refused: false }
    }

    /// Whether the instance wanted more than its limit.
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    fn grow(&mut self, bytes: usize) -> wasmtime::Result<bool> {
        match self.taken.checked_add(bytes).filter(|taken| *taken <= self.limit) {
            Some(taken) => {
                self.taken = taken;
                Ok(true)
            }
            None => {
                self.refused = true;
                Err(wasmtime::Error::msg("out of memory"))
            }
        }
    }
}

impl ResourceLimiter for Room {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current).saturating_mul(ELEMENT))
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}
