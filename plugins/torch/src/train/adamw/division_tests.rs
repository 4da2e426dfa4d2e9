//! States of several processes, to the bit. Each parameter has its gradient on one process, so that sums are exact.

use std::collections::BTreeMap;
use std::path::Path;

use super::tests::{PLAIN, alone, bytes, parameters, step, ways};
use super::*;
use crate::manifest::Manifest;
use crate::train::parallel::tests::{collectives, on_threads};

/// Weights and state by name.
type Bytes = BTreeMap<String, Vec<u8>>;

/// Processes that train, and what they divide.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Team {
    count: usize,
    divided: bool,
}

const TEAMS: [Team; 6] = [
    Team { count: 1, divided: false },
    Team { count: 2, divided: false },
    Team { count: 2, divided: true },
    Team { count: 3, divided: false },
    Team { count: 3, divided: true },
    Team { count: 4, divided: true },
];

/// Weights that were saved beside a state.
type Weights = Vec<(String, Tensor)>;

fn copied(weights: &Weights) -> Weights {
    let copy =
        |(name, tensor): &(String, Tensor)| (name.clone(), tensor.detach().copy().set_requires_grad(true));
    weights.iter().map(copy).collect()
}

fn save(adamw: &AdamW, dir: &Path) {
    if adamw.is_divided() || adamw.processes.rank() == 0 {
        adamw.state().unwrap().save(dir, &mut Manifest::new()).unwrap();
    }
    // All files are written.
    adamw.processes.agree(Ok(Vec::new())).unwrap();
}

/// What a single process reads of a saved state, with its weights.
fn read_alone(dir: &Path, weights: &Weights, settings: AdamWSettings) -> Bytes {
    let mut adamw = alone(copied(weights), settings);
    adamw.restore(&AdamWState::read(dir, &adamw).unwrap()).unwrap();
    bytes(&adamw)
}

/// Takes steps from a saved state on, if there is one, and saves the state in `to`. Returns the weights, which are the same on
/// all processes.
fn train(
    team: Team,
    settings: AdamWSettings,
    weights: &[Weights],
    from: Option<&Path>,
    steps: std::ops::Range<i64>,
    to: &Path,
) -> Weights {
    // A tensor may be sent to a thread, but not shared with it.
    let own: Vec<std::sync::Mutex<Weights>> =
        weights.iter().map(|weights| std::sync::Mutex::new(copied(weights))).collect();
    let ends = on_threads(team.count, |rank, group| {
        let processes = Processes::new(collectives(group.as_ref()));
        let settings = AdamWSettings { divided: team.divided, ..settings };
        let mut adamw = AdamW::new(copied(&own[rank].lock().unwrap()), settings, processes);
        if let Some(from) = from {
            adamw.restore(&AdamWState::read(from, &adamw).unwrap()).unwrap();
        }
        for at in steps.clone() {
            // A parameter may have no gradient at first.
            step(&mut adamw, at, [Some(3), Some(3), None, None][at as usize]);
        }
        save(&adamw, to);
        adamw.parameters
    });
    let named = |weights: &Weights| -> Bytes {
        weights.iter().map(|(name, it)| (name.clone(), crate::tensors::bytes_of(it).unwrap())).collect()
    };
    assert!(ends.iter().all(|end| named(end) == named(&ends[0])), "{team:?}");
    ends.into_iter().next().unwrap()
}

fn several(weights: &Weights) -> Vec<Weights> {
    (0..4).map(|_| copied(weights)).collect()
}

#[test]
fn any_number_of_processes_with_or_without_division_has_the_state_of_one() {
    let way = |settings: AdamWSettings| AdamWSettings { weight_decay: 0.1, ..settings };
    for settings in ways().into_iter().chain([PLAIN]).map(way) {
        for kind in [Kind::Float, Kind::BFloat16] {
            let start = parameters(kind);
            let outcomes = TEAMS.map(|team| {
                let folder = tempfile::tempdir().unwrap();
                let end = train(team, settings, &several(&start), None, 0..4, folder.path());
                read_alone(folder.path(), &end, settings)
            });
            for (team, outcome) in TEAMS.iter().zip(&outcomes) {
                assert!(*outcome == outcomes[0], "{team:?} {settings:?} {kind:?}");
            }
        }
    }
}

/// 1 <-> 2 <-> 3 and undivided <-> divided: each reads what each has written, and goes on to the same bits.
#[test]
fn a_state_is_continued_by_any_other_number_of_processes() {
    let [_, together, eight_bit, _] = ways();
    for (settings, kind) in [
        (PLAIN, Kind::Float),
        (PLAIN, Kind::BFloat16),
        (together, Kind::BFloat16),
        (eight_bit, Kind::Float),
    ] {
        let start = parameters(kind);
        let whole = tempfile::tempdir().unwrap();
        let end = train(TEAMS[0], settings, &several(&start), None, 0..4, whole.path());
        let expected = read_alone(whole.path(), &end, settings);
        for first in TEAMS {
            let middle = tempfile::tempdir().unwrap();
            let weights = train(first, settings, &several(&start), None, 0..2, middle.path());
            for second in TEAMS {
                let last = tempfile::tempdir().unwrap();
                let weights = several(&weights);
                let end = train(second, settings, &weights, Some(middle.path()), 2..4, last.path());
                assert!(
                    read_alone(last.path(), &end, settings) == expected,
                    "{first:?} {second:?} {settings:?} {kind:?}"
                );
            }
        }
    }
}

/// Files as a single process has always written them.
#[test]
fn an_undivided_state_keeps_its_files() {
    let folder = tempfile::tempdir().unwrap();
    train(TEAMS[3], PLAIN, &several(&parameters(Kind::Float)), None, 0..2, folder.path());
    let description = std::fs::read_to_string(folder.path().join("optimizer.json")).unwrap();
    assert_eq!(description, "{\"steps\": 2}\n");
    let tensors = crate::tensors::read_tensors(&folder.path().join("optimizer.safetensors")).unwrap();
    assert_eq!(tensors["first.p0"].size(), [70, 90]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_divided_state_that_lacks_a_file_or_elements_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let end = train(TEAMS[2], PLAIN, &several(&parameters(Kind::Float)), None, 0..2, folder.path());
    let optimizer = alone(copied(&end), PLAIN);
    let refused = || AdamWState::read(folder.path(), &optimizer).err().unwrap().to_string();
    let path = folder.path().join("optimizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut description: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(description["shards"][1]["elements"]["p0"], serde_json::json!([3150, 6300]));
    let shards = description["shards"].as_array_mut().unwrap();
    let second = shards.pop().unwrap();
    std::fs::write(&path, description.to_string()).unwrap();
    assert!(refused().contains("hold 3150 of 6300 elements of first.p0"), "{}", refused());
    let shards = description["shards"].as_array_mut().unwrap();
    shards.push(second);
    shards[1]["elements"]["p0"] = serde_json::json!([3151, 6300]);
    std::fs::write(&path, description.to_string()).unwrap();
    assert!(refused().contains("00002-of-00002.safetensors: first.p0 has another shape"), "{}", refused());
    std::fs::write(&path, text).unwrap();
    std::fs::remove_file(folder.path().join("optimizer-00002-of-00002.safetensors")).unwrap();
    assert!(refused().contains("00002-of-00002.safetensors"), "{}", refused());
}
