//! Expansion of a sweep file into arms: named arms x grid x draws, minus excluded combinations.

mod bases;
mod draws;
pub(crate) mod name;

use std::collections::HashSet;

use toml::{Table, Value};

use crate::error::SweepError;
use crate::file::{MOST_RUNS, Resources, SweepFile, same};

/// A variant of the base config.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// Name of the arm and of its folder.
    pub name: String,
    /// Settings by config path. Of two settings of one path the later one applies.
    pub set: Vec<(String, Value)>,
    /// What each of its runs has.
    pub resources: Resources,
}

/// Part of an arm: a label and settings.
type Part = (String, Vec<(String, Value)>);

/// Expands a sweep file into its arms, in the file's order. `SweepFile::set` is not part of their settings.
///
/// # Errors
/// [`SweepError::Unusable`] for values that cannot be varied, invalid or repeated names, and `exclude` tables that leave no arm or
/// name a path that no arm sets.
pub fn expand(file: &SweepFile) -> Result<Vec<Arm>, SweepError> {
    let named: Vec<Part> = file.arms.iter().map(|arm| (arm.name.clone(), pairs(&arm.set))).collect();
    let mut arms = times(vec![(String::new(), Vec::new())], named)?;
    for dimension in grid(&file.grid)? {
        arms = times(arms, dimension)?;
    }
    if let Some((draws, is_quasi)) =
        file.random.as_ref().map(|it| (it, false)).or(file.quasi_random.as_ref().map(|it| (it, true)))
    {
        arms = times(arms, draws::draw(draws, is_quasi)?)?;
    }
    if let [(name, _)] = arms.as_mut_slice()
        && name.is_empty()
    {
        name.push_str("base");
    }
    // The variants of a named arm stand together, as many of each.
    let variants = arms.len() / file.arms.len().max(1);
    let arm = |(index, (name, set)): (usize, Part)| {
        let resources = file.resources(file.arms.get(index / variants));
        Arm { name, set, resources }
    };
    let arms: Vec<Arm> = arms.into_iter().enumerate().map(arm).collect();
    let arms = without_excluded(&file.exclude, arms)?;
    let bases = file.bases.len().max(1);
    let runs = arms.len().saturating_mul(file.seeds.len()).saturating_mul(bases);
    if runs > MOST_RUNS {
        let of = if file.bases.is_empty() { "arms times seeds" } else { "arms times bases times seeds" };
        let text = format!("it has {runs} runs, {of}, and may have {MOST_RUNS}");
        return Err(SweepError::Unusable(text));
    }
    check_names(file, &arms)?;
    bases::check(file, &arms)?;
    Ok(arms)
}

fn pairs(table: &Table) -> Vec<(String, Value)> {
    table.iter().map(|(path, value)| (path.clone(), value.clone())).collect()
}

/// Cartesian product; `arms` itself if `parts` is empty.
///
/// # Errors
/// [`SweepError::Unusable`] for more arms than a sweep may have, before they are made.
fn times(arms: Vec<Part>, parts: Vec<Part>) -> Result<Vec<Part>, SweepError> {
    if parts.is_empty() {
        return Ok(arms);
    }
    let count = arms.len().saturating_mul(parts.len());
    if count > MOST_RUNS {
        let text = format!(
            "`arms`, `grid` and draws give {count} arms or more; a sweep has at most {MOST_RUNS} runs"
        );
        return Err(SweepError::Unusable(text));
    }
    let joined = |(left, set): &Part, (right, more): &Part| {
        let name = if left.is_empty() { right.clone() } else { format!("{left},{right}") };
        (name, set.iter().chain(more).cloned().collect())
    };
    Ok(arms.iter().flat_map(|arm| parts.iter().map(move |part| joined(arm, part))).collect())
}

/// One dimension per path.
fn grid(table: &Table) -> Result<Vec<Vec<Part>>, SweepError> {
    let names = name::short_names(table);
    let dimension = |(path, values): (&String, &Value)| {
        let values = list(&format!("grid.{path:?}"), values)?;
        let labels = name::labels(values);
        let parts = labels.into_iter().zip(values).map(|(label, value)| {
            (format!("{}={label}", names[path]), vec![(path.clone(), value.clone())])
        });
        Ok(parts.collect())
    };
    table.iter().map(dimension).collect()
}

/// A non-empty list.
fn list<'a>(key: &str, value: &'a Value) -> Result<&'a [Value], SweepError> {
    let remedy = match value {
        Value::Array(values) if !values.is_empty() => return Ok(values),
        Value::Table(_) => "it is a table; a path with dots stands in quotes: \"judge.prompt\" = [..]",
        _ => "give a list of values",
    };
    Err(SweepError::Unusable(format!("`{key}`: {remedy}")))
}

/// Arms that match no `exclude` table.
fn without_excluded(exclude: &[Table], arms: Vec<Arm>) -> Result<Vec<Arm>, SweepError> {
    for path in exclude.iter().flat_map(Table::keys) {
        if !arms.iter().any(|arm| arm.value(path).is_some()) {
            let text = format!("`exclude` speaks of `{path}`, which no arm sets; correct or remove it");
            return Err(SweepError::Unusable(text));
        }
    }
    let holds = |arm: &Arm, table: &Table| {
        !table.is_empty()
            && table.iter().all(|(path, value)| arm.value(path).is_some_and(|own| same(own, value)))
    };
    let kept: Vec<Arm> =
        arms.into_iter().filter(|arm| !exclude.iter().any(|table| holds(arm, table))).collect();
    match kept.is_empty() {
        true => Err(SweepError::Unusable("`exclude` leaves no arm; loosen it".to_owned())),
        false => Ok(kept),
    }
}

impl Arm {
    /// Value that the arm sets at a path, directly or within a table.
    fn value(&self, path: &str) -> Option<&Value> {
        self.set.iter().rev().find_map(|(set, value)| match path.strip_prefix(set.as_str())? {
            "" => Some(value),
            below => below.strip_prefix('.')?.split('.').try_fold(value, |value, key| value.get(key)),
        })
    }
}

fn check_names(file: &SweepFile, arms: &[Arm]) -> Result<(), SweepError> {
    let mut seen = HashSet::new();
    for Arm { name, .. } in arms {
        if !name::is_folder(name) {
            let text = format!("arm `{name}`: {}", name::RULE);
            return Err(SweepError::Unusable(text));
        }
        if !seen.insert(name::plain(name).to_lowercase()) {
            return Err(SweepError::Unusable(format!("two arms have the name `{name}`; rename one")));
        }
    }
    match &file.baseline {
        Some(baseline) if !arms.iter().any(|arm| arm.name == *baseline) => {
            let names: Vec<_> = arms.iter().map(|arm| arm.name.as_str()).take(20).collect();
            let text = format!("`baseline` is `{baseline}`, which is no arm; arms: {}", names.join("; "));
            Err(SweepError::Unusable(text))
        }
        _ => Ok(()),
    }
}
