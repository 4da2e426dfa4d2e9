//! A killed process can leave any state that its disk was in. This makes all of them: what stood there
//! whenever the loop called a component or reported an event, and what lies between two of those.

use std::path::Path;
use std::sync::{Arc, Mutex};

use isr_api::{Event, Observer};

use crate::bench::{Settings, Tree, run_under, scratch, tree};
use crate::control::{Act, Call, Control};

/// How a run's components behave, apart from being watched.
pub(crate) type Behaviour = fn(&Call<'_>) -> Act;

/// The final directory of a run, and the states that a kill could have left.
pub(crate) struct Crashes {
    pub(crate) last: Tree,
    pub(crate) states: Vec<(String, Tree)>,
}

/// Runs once and takes a picture of the directory at every step.
pub(crate) async fn crashes(settings: &Settings, behaviour: Behaviour) -> Crashes {
    let dir = scratch();
    let pictures = Arc::new(Pictures { dir: dir.path().to_owned(), trees: Mutex::default() });
    let observer: Arc<dyn Observer> = pictures.clone();
    let mut settings = Settings { observers: vec![observer], ..settings.clone() };
    // One at a time, so that each change to the directory is seen on its own.
    settings.r#loop.concurrency = 1;
    let watch = Arc::clone(&pictures);
    let control = Control::with(move |call| {
        watch.take();
        behaviour(call)
    });
    run_under(dir.path(), &settings, &Arc::new(control)).await.unwrap();

    let mut states = Vec::new();
    let mut before = Tree::new();
    for (number, after) in pictures.trees.lock().unwrap().iter().enumerate() {
        let between = between(&before, after).into_iter();
        states.extend(between.map(|(what, state)| (format!("picture {number}, {what}"), state)));
        states.push((format!("picture {number}"), after.clone()));
        before.clone_from(after);
    }
    Crashes { last: tree(dir.path()), states }
}

struct Pictures {
    dir: std::path::PathBuf,
    trees: Mutex<Vec<Tree>>,
}

impl Pictures {
    fn take(&self) {
        let tree = tree(&self.dir);
        let mut trees = self.trees.lock().unwrap();
        if trees.last() != Some(&tree) {
            trees.push(tree);
        }
    }
}

impl Observer for Pictures {
    fn observe(&self, _: &Event<'_>) {
        self.take();
    }
}

/// One change to the directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Folder(String),
    /// Written aside and renamed.
    File(String),
    Lines(String),
    /// A folder that is filled aside and renamed.
    Published(String),
    Removed(String),
}

/// The states between two pictures: in the middle of each change, and after each but the last.
fn between(before: &Tree, after: &Tree) -> Vec<(String, Tree)> {
    let mut states = Vec::new();
    let mut now = before.clone();
    for change in changes(before, after) {
        for state in halves(&now, after, &change) {
            states.push((format!("amid {change:?}"), state));
        }
        apply(&mut now, after, &change);
        states.push((format!("after {change:?}"), now.clone()));
    }
    assert!(now == *after, "a change was not understood");
    states.pop();
    states
}

fn changes(before: &Tree, after: &Tree) -> Vec<Change> {
    let mut changes = Vec::new();
    for (name, content) in after {
        let published =
            changes.iter().any(|change| matches!(change, Change::Published(of) if within(name, of)));
        if published || before.get(name) == Some(content) {
            continue;
        }
        let old = before.get(name).and_then(Option::as_ref).map_or(&[] as &[u8], Vec::as_slice);
        changes.push(match content {
            None if is_published(name) => Change::Published(name.clone()),
            None => Change::Folder(name.clone()),
            Some(bytes) if is_journal(name) && bytes.starts_with(old) => Change::Lines(name.clone()),
            Some(_) => Change::File(name.clone()),
        });
    }
    // A folder that is published is renamed: what it was before is gone in the same instant.
    let is_renamed = |name: &str| {
        changes.iter().any(|change| matches!(change, Change::Published(of) if within(name, &aside(of))))
    };
    let removed = before.keys().filter(|name| !after.contains_key(*name) && !is_renamed(name));
    let removed: Vec<String> = removed.cloned().collect();
    let is_top = |name: &&String| !removed.iter().any(|other| *name != other && within(name, other));
    changes.extend(removed.iter().filter(is_top).cloned().map(Change::Removed));
    changes.sort();
    changes
}

fn is_published(name: &str) -> bool {
    let last = Path::new(name).file_name().unwrap().to_str().unwrap();
    last == "checkpoint" || last.starts_with("step-")
}

fn is_journal(name: &str) -> bool {
    name.ends_with(".jsonl") && !name.ends_with("pairs.jsonl")
}

fn aside(name: &str) -> String {
    format!("{name}.tmp")
}

fn within(name: &str, folder: &str) -> bool {
    name == folder || name.starts_with(&format!("{folder}/"))
}

fn part<'a>(tree: &'a Tree, folder: &'a str) -> impl Iterator<Item = (&'a String, &'a Option<Vec<u8>>)> {
    tree.iter().filter(move |(name, _)| within(name, folder))
}

/// What a kill in the middle of the change leaves.
fn halves(now: &Tree, after: &Tree, change: &Change) -> Vec<Tree> {
    match change {
        Change::Folder(_) => Vec::new(),
        Change::File(name) => {
            let bytes = after[name].as_ref().unwrap();
            let written = |length: usize| with(now, &aside(name), &bytes[..length]);
            vec![written(0), written(bytes.len() / 2), written(bytes.len())]
        }
        Change::Lines(name) => {
            let bytes = after[name].as_ref().unwrap();
            let old = now.get(name).and_then(Option::as_ref).map_or(0, Vec::len);
            if bytes.len() == old {
                return Vec::new();
            }
            let torn = |length: usize| with(now, name, &bytes[..length]);
            vec![torn(old + 1), torn((old + bytes.len()) / 2), torn(bytes.len() - 1)]
        }
        Change::Published(folder) => {
            let filled = |limit: usize| {
                let mut state = now.clone();
                for (name, content) in part(after, folder) {
                    let name = name.replacen(folder, &aside(folder), 1);
                    let content = content.as_ref().map(|bytes| bytes[..bytes.len().min(limit)].to_vec());
                    state.insert(name, content);
                }
                state
            };
            vec![with_folder(now, &aside(folder)), filled(5), filled(usize::MAX)]
        }
        Change::Removed(folder) => {
            let files = part(now, folder).filter(|(_, content)| content.is_some());
            let gone = files.map(|(name, _)| name.clone()).collect::<Vec<_>>();
            let without = |count: usize| {
                let mut state = now.clone();
                gone.iter().take(count).for_each(|name| drop(state.remove(name)));
                state
            };
            vec![without(1), without(gone.len())]
        }
    }
}

fn with(tree: &Tree, name: &str, bytes: &[u8]) -> Tree {
    let mut tree = tree.clone();
    tree.insert(name.to_owned(), Some(bytes.to_vec()));
    tree
}

fn with_folder(tree: &Tree, name: &str) -> Tree {
    let mut tree = tree.clone();
    tree.insert(name.to_owned(), None);
    tree
}

fn apply(now: &mut Tree, after: &Tree, change: &Change) {
    match change {
        Change::Folder(name) | Change::File(name) | Change::Lines(name) => {
            now.insert(name.clone(), after[name].clone());
        }
        Change::Published(folder) => {
            now.retain(|name, _| !within(name, &aside(folder)));
            now.extend(part(after, folder).map(|(name, content)| (name.clone(), content.clone())));
        }
        Change::Removed(folder) => now.retain(|name, _| !within(name, folder)),
    }
}
