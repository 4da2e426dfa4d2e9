//! Budget of a rendering: the values that a template makes are weighed before and after whatever can make them grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters, tests};
use rustix::time::{ClockId, clock_gettime};

use super::bounds::WEIGH;

/// Bytes of values that a rendering may make, in total.
const BUDGET: u64 = 256 << 20;

/// Largest product of the sizes of two arguments, for what multiplies them.
const MAX_PRODUCT: u64 = 64 << 20;

/// Depth of nested lists and mappings.
const MAX_DEPTH: usize = 64;

/// Longest processor time of a rendering, far above what the other bounds allow. It is that of the thread, so that a
/// program that was suspended, or runs beside others, renders what it would render alone.
const TIME: Duration = Duration::from_secs(10);

/// Size of a value beside its text; it also bounds the time that weighing takes.
const NODE: u64 = 128;

/// What is left of a rendering's budget.
#[derive(Debug)]
pub(super) struct Meter {
    left: AtomicU64,
    /// Processor time of the rendering thread at which it is stopped, in milliseconds.
    deadline: AtomicU64,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { left: AtomicU64::new(0), deadline: AtomicU64::new(0) }
    }

    /// Starts a rendering.
    pub(super) fn reset(&self) {
        self.left.store(BUDGET, Ordering::Relaxed);
        self.deadline.store((thread_time() + TIME).as_millis() as u64, Ordering::Relaxed);
    }

    /// Draws `bytes` from the budget.
    ///
    /// # Errors
    /// A spent budget, or time that is over.
    pub(super) fn draw(&self, bytes: u64) -> Result<(), Error> {
        let left = self.left.load(Ordering::Relaxed);
        if bytes > left {
            self.left.store(0, Ordering::Relaxed);
            return Err(refused(format!("it makes values of more than {} MiB", BUDGET >> 20)));
        }
        self.left.store(left - bytes, Ordering::Relaxed);
        if thread_time().as_millis() as u64 > self.deadline.load(Ordering::Relaxed) {
            return Err(refused(format!("it did not end within {} s of processor time", TIME.as_secs())));
        }
        Ok(())
    }

    /// Weighs a value with all that it holds; what it holds twice counts twice.
    ///
    /// # Errors
    /// A spent budget, or lists and mappings beyond [`MAX_DEPTH`].
    pub(super) fn weigh(&self, value: &Value) -> Result<(), Error> {
        self.weigh_at(value, 0)
    }

    fn weigh_at(&self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(refused(format!("it makes lists of more than {MAX_DEPTH} levels")));
        }
        match value.kind() {
            ValueKind::String | ValueKind::Bytes => self.draw(NODE + text_len(value)),
            ValueKind::Seq | ValueKind::Iterable => {
                // Lists may be lazy and longer than memory.
                self.draw(value.len().unwrap_or(0) as u64 * NODE)?;
                value.try_iter()?.try_for_each(|item| self.weigh_at(&item, depth + 1))
            }
            ValueKind::Map => {
                self.draw(NODE)?;
                value.try_iter()?.try_for_each(|key| {
                    self.weigh_at(&key, depth + 1)?;
                    value.get_item(&key).map_or(Ok(()), |item| self.weigh_at(&item, depth + 1))
                })
            }
            _ => self.draw(NODE),
        }
    }

    /// Refuses arguments that would multiply to more than [`MAX_PRODUCT`].
    fn check_product(&self, arguments: &[Value]) -> Result<(), Error> {
        let size = |value: &Value| match value.kind() {
            ValueKind::Number => i64::try_from(value.clone()).map_or(u64::MAX, i64::unsigned_abs),
            ValueKind::Undefined | ValueKind::None | ValueKind::Bool => 1,
            ValueKind::Map => {
                // Keyword arguments.
                let item = |key: Value| value.get_item(&key).ok().and_then(|item| i64::try_from(item).ok());
                let keys = value.try_iter().into_iter().flatten();
                keys.filter_map(item).map(i64::unsigned_abs).max().unwrap_or(1)
            }
            ValueKind::String => text_len(value),
            _ => value.len().or_else(|| Some(value.try_iter().ok()?.count())).unwrap_or(1) as u64,
        };
        let mut sizes: Vec<u64> = arguments.iter().map(|value| size(value).max(1)).collect();
        sizes.sort_unstable();
        let product = sizes.iter().rev().take(2).fold(1_u64, |product, size| product.saturating_mul(*size));
        match product > MAX_PRODUCT {
            true => Err(refused("it multiplies texts beyond bounds".to_owned())),
            false => Ok(()),
        }
    }

    /// Calls what may grow with weighed arguments, and weighs its result.
    fn call<T: Into<Value>>(
        &self,
        name: &str,
        arguments: &[Value],
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Value, Error> {
        arguments.iter().try_for_each(|argument| self.weigh(argument))?;
        if matches!(name, "join" | "replace" | "indent" | "batch" | "slice" | "format" | "pprint" | "split")
        {
            self.check_product(arguments)?;
        }
        if name == "format" {
            check_widths(arguments)?;
        }
        let result = work()?.into();
        self.weigh(&result)?;
        Ok(result)
    }
}

/// Processor time that this thread has used.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Error of a template beyond its bounds.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct OutOfBounds(String);

/// Creates the error of a template beyond its bounds.
pub(super) fn refused(why: String) -> Error {
    let error = OutOfBounds(why);
    Error::new(ErrorKind::InvalidOperation, error.to_string()).with_source(error)
}

fn text_len(value: &Value) -> u64 {
    value.as_str().map(str::len).or_else(|| value.as_bytes().map(<[u8]>::len)).unwrap_or(0) as u64
}

/// Refuses formats whose widths have five digits or more.
fn check_widths(arguments: &[Value]) -> Result<(), Error> {
    let format = arguments.first().and_then(Value::as_str).unwrap_or_default();
    let longest = format.split(|character: char| !character.is_ascii_digit()).map(str::len).max();
    match longest.unwrap_or(0) > 4 || format.contains('*') {
        true => Err(refused("it formats beyond a width of 9999".to_owned())),
        false => Ok(()),
    }
}

/// Puts metered filters and tests in place of minijinja's, the methods of Python's types, and the filter [`WEIGH`].
pub(super) fn install(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    macro_rules! metered_filters {
        ($($name:literal => $filter:path),* $(,)?) => {$(
            let meter_of_filter = Arc::clone(meter);
            environment.add_filter(concat!("isr ", $name), $filter);
            environment.add_filter($name, move |state: &State<'_, '_>, arguments: Rest<Value>| {
                let work = || state.apply_filter(concat!("isr ", $name), &arguments);
                meter_of_filter.call($name, &arguments, work)
            });
        )*};
    }
    macro_rules! metered_tests {
        ($($name:literal => $test:path),* $(,)?) => {$(
            let meter_of_test = Arc::clone(meter);
            environment.add_test(concat!("isr ", $name), $test);
            environment.add_test($name, move |state: &State<'_, '_>, arguments: Rest<Value>| {
                let work = || state.perform_test(concat!("isr ", $name), &arguments);
                meter_of_test.call($name, &arguments, work).map(|value| value.is_true())
            });
        )*};
    }
    metered_filters! {
        "upper" => filters::upper, "lower" => filters::lower, "title" => filters::title,
        "capitalize" => filters::capitalize, "replace" => filters::replace, "dictsort" => filters::dictsort,
        "items" => filters::items, "reverse" => filters::reverse, "trim" => filters::trim, "join" => filters::join,
        "split" => filters::split, "lines" => filters::lines, "min" => filters::min, "max" => filters::max,
        "sort" => filters::sort, "list" => filters::list, "string" => filters::string, "batch" => filters::batch,
        "slice" => filters::slice, "sum" => filters::sum, "indent" => filters::indent, "select" => filters::select,
        "selectattr" => filters::selectattr, "reject" => filters::reject, "rejectattr" => filters::rejectattr,
        "map" => filters::map, "groupby" => filters::groupby, "unique" => filters::unique, "chain" => filters::chain,
        "zip" => filters::zip, "pprint" => filters::pprint, "format" => filters::format, "escape" => filters::escape,
        "e" => filters::escape, "tojson" => super::functions::to_json,
    }
    metered_tests! {
        "eq" => tests::is_eq, "equalto" => tests::is_eq, "==" => tests::is_eq, "ne" => tests::is_ne,
        "!=" => tests::is_ne, "lt" => tests::is_lt, "lessthan" => tests::is_lt, "<" => tests::is_lt,
        "le" => tests::is_le, "<=" => tests::is_le, "gt" => tests::is_gt, "greaterthan" => tests::is_gt,
        ">" => tests::is_gt, "ge" => tests::is_ge, ">=" => tests::is_ge, "in" => tests::is_in,
    }
    let weighing = Arc::clone(meter);
    environment.add_filter(WEIGH, move |value: Value| weighing.weigh(&value).map(|()| value));
    let methods = Arc::clone(meter);
    environment.set_unknown_method_callback(move |state, value, method, arguments| {
        let all: Vec<Value> = std::iter::once(value).chain(arguments).cloned().collect();
        let work = || minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments);
        methods.call(method, &all, work)
    });
}
