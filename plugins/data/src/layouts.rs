//! Sets of files whose rows have a layout: its choice by their keys, and errors that name the nearest one.

use std::path::{Path, PathBuf};

use isr_api::UnusableRow;

use crate::error::DataError;
use crate::lists::Wanted;
use crate::media::{Media, MediaStore};
use crate::paths::Paths;
use crate::row::Object;
use crate::table::{self, TableRow};

/// Rows at the front of a file by whose keys a layout is detected or checked.
const LOOKED_AT: usize = 100;

/// A layout of rows with the keys that each of its rows has.
pub(crate) trait RowLayout: Copy + 'static {
    /// All layouts, of which the first that fits is taken.
    const ALL: &'static [Self];

    /// Keys that layouts read, for tables that are read by column.
    const READ: &'static [&'static str];

    /// Name in a config.
    fn name(self) -> &'static str;

    /// Keys that a row needs.
    fn keys(self) -> &'static [&'static str];

    /// Whether a row with all keys is of this layout.
    fn fits(self, _: &Object) -> bool {
        true
    }
}

/// Files of a dataset, and how their rows are read.
pub(crate) struct FileSet<'a, L> {
    pub(crate) path: &'a Paths,
    pub(crate) media_root: Option<&'a PathBuf>,
    pub(crate) media_dir: Option<&'a PathBuf>,
    /// The layout that the config names.
    pub(crate) layout: Option<L>,
    /// Columns of a map in place of a layout.
    pub(crate) columns: Option<Vec<String>>,
}

/// Rows with their origins, or why they cannot be used.
pub(crate) type ReadRows<T> = Vec<Result<(String, T), UnusableRow>>;

impl<L: RowLayout> FileSet<'_, L> {
    /// Checks the settings; the message names the first that is invalid.
    pub(crate) fn validate(&self) -> Result<(), String> {
        self.path.validate("path")?;
        if let Some(root) = self.media_root.filter(|root| !root.is_dir()) {
            return Err(format!("media_root is {}, which is no folder", root.display()));
        }
        let Some(columns) = &self.columns else { return Ok(()) };
        if self.layout.is_some() {
            return Err("layout is set beside columns; leave out one of them".to_owned());
        }
        match columns.iter().find(|column| column.split('.').any(|part| part.trim().is_empty())) {
            Some(column) => Err(format!("columns has {column:?}; it must name a column")),
            None => Ok(()),
        }
    }

    /// Reads all files. `read` gets the layout of the row's file, or `None` where columns are mapped.
    pub(crate) fn read<T>(
        &self,
        read: impl Fn(Option<L>, &Object, Media<'_>) -> Result<T, String>,
    ) -> Result<ReadRows<T>, DataError> {
        let store = MediaStore::new(self.media_dir.map(PathBuf::as_path));
        let wanted = match &self.columns {
            Some(columns) => Wanted::All(columns.clone()),
            None => Wanted::Any(L::READ.iter().map(|&key| key.to_owned()).collect()),
        };
        let mut all = Vec::new();
        for file in self.path.files()? {
            let beside = file.parent().unwrap_or(Path::new(""));
            let root = self.media_root.map_or(beside, PathBuf::as_path);
            let rows = table::read(&file, &wanted, &store)?;
            let layout = match self.columns {
                Some(_) => None,
                None => {
                    let found = of_rows(&rows, self.layout);
                    Some(found.map_err(|reason| DataError::Table { path: file.clone(), reason })?)
                }
            };
            let media = Media { root, store: &store };
            all.extend(rows.into_iter().map(|row| row.read(|row| read(layout, row, media))));
        }
        Ok(all)
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
fn of_rows<L: RowLayout>(rows: &[TableRow], named: Option<L>) -> Result<L, String> {
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
