//! Choice of a layout by the keys of a file's rows, and errors that name the nearest one.

use crate::row::Object;
use crate::table::TableRow;

/// Rows at the front of a file by whose keys a layout is detected or checked.
const LOOKED_AT: usize = 100;

/// A layout of rows with the keys that each of its rows has.
pub(crate) trait RowLayout: Copy + 'static {
    /// All layouts, of which the first that fits is taken.
    const ALL: &'static [Self];

    /// Name in a config.
    fn name(self) -> &'static str;

    /// Keys that a row needs.
    fn keys(self) -> &'static [&'static str];

    /// Whether a row with all keys is of this layout.
    fn fits(self, _: &Object) -> bool {
        true
    }
}

fn lacks<L: RowLayout>(layout: L, row: &Object) -> Vec<&'static str> {
    layout.keys().iter().copied().filter(|key| !row.contains_key(*key)).collect()
}

fn is_of<L: RowLayout>(layout: L, row: &Object) -> bool {
    lacks(layout, row).is_empty() && layout.fits(row)
}

/// Detects the layout of a file, or checks the one that the config names, by the first rows.
///
/// # Errors
/// A message with the nearest layout, where no row has the keys.
pub(crate) fn of_rows<L: RowLayout>(rows: &[TableRow], named: Option<L>) -> Result<L, String> {
    let objects = || rows.iter().take(LOOKED_AT).filter_map(|row| row.content.as_ref().ok());
    let detected = objects().find_map(|row| L::ALL.iter().copied().find(|layout| is_of(*layout, row)));
    let Some(first) = objects().next() else {
        // Each row has its own reason.
        return named.or(L::ALL.first().copied()).ok_or_else(|| "no layout is known".to_owned());
    };
    match (named, detected) {
        (Some(layout), _) if objects().any(|row| is_of(layout, row)) => Ok(layout),
        (Some(layout), Some(other)) => Err(format!(
            "no row is of layout `{}`, which needs {}; they are of layout = \"{}\"",
            layout.name(),
            quoted(layout.keys()),
            other.name()
        )),
        (None, Some(layout)) => Ok(layout),
        (_, None) => Err(unknown::<L>(first)),
    }
}

fn unknown<L: RowLayout>(row: &Object) -> String {
    let nearest = L::ALL.iter().copied().min_by_key(|layout| lacks(*layout, row).len());
    let names: Vec<&str> = row.keys().map(String::as_str).collect();
    let nearest = nearest.map_or_else(String::new, |layout| {
        format!("; the nearest is `{}`, which also needs {}", layout.name(), quoted(&lacks(layout, row)))
    });
    format!(
        "its rows, with {}, are of no known layout{nearest}; name their columns by `columns`",
        quoted(&names)
    )
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
