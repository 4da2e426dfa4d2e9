//! The name that was meant.

/// The name that differs from `wrong` by at most a third of its letters, the nearest first.
pub(crate) fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &str| strsim::damerau_levenshtein(&wrong.to_lowercase(), &name.to_lowercase());
    let near = names.into_iter().map(|name| (distance(name), name));
    let near = near.filter(|(distance, name)| *distance <= (name.chars().count() / 3).max(1));
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// `; did you mean ...?` where a name is near, else what there is.
pub(crate) fn hint(wrong: &str, names: &[&str]) -> String {
    match nearest(wrong, names.iter().copied()) {
        Some(name) => format!("; did you mean `{name}`?"),
        None if names.is_empty() => String::new(),
        None => format!("; there are {}", listed(names)),
    }
}

/// The names in quotes; of many, the first ones.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    let mut quoted: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if names.len() > SHOWN {
        quoted.push(format!("{} more", names.len() - SHOWN));
    }
    quoted.join(", ")
}
