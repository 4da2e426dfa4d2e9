//! Groups of real processes: what they exchange, and what the others hear of one that is gone.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

#[path = "support/processes.rs"]
mod processes;

use std::collections::BTreeSet;
use std::process::exit;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use isr_api::ProcessGroup;
use isr_torch::process_group::{C10dGroup, Rendezvous, Settings, current, join};
use processes::{Ended, Process, free_port, start, start_all};

/// Time limit of the groups here.
const LIMIT: Duration = Duration::from_secs(3);
/// Time limit of the arrival where it is tested.
const ARRIVAL: Duration = Duration::from_secs(2);
/// Time that a busy machine may add.
const SLACK: Duration = Duration::from_secs(2);

fn settings() -> Settings {
    Settings { limit: LIMIT, ..Settings::default() }
}

/// Seconds by the clock that all processes here have.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Joins, and ends the process with status 3 when the group is lost.
fn joined_with(settings: Settings) -> Arc<C10dGroup> {
    let place = Rendezvous::from_env().unwrap().expect("a group");
    let on_lost = Box::new(|message| {
        println!("lost {message}");
        println!("at {}", now());
        exit(3);
    });
    let group = join(place, settings, on_lost).unwrap_or_else(|error| {
        println!("refused {error}");
        exit(4);
    });
    println!("joined");
    group
}

fn joined() -> Arc<C10dGroup> {
    joined_with(settings())
}

/// Not a test of its own: the processes that the tests start.
#[test]
#[ignore = "a role that other tests start"]
fn process() {
    let Some(role) = processes::role() else { return };
    // Ends the line that libtest has begun.
    println!();
    match role.as_str() {
        "exchange" => exchange(),
        // Rank 0 does not call, so that no barrier is passed.
        "wait" => {
            let group = joined();
            if group.rank() == 0 {
                sleep(Duration::from_secs(30));
            }
            println!("error {}", group.barrier().unwrap_err());
            // The watchdog ends it.
            sleep(Duration::from_secs(30));
        }
        "absent" => {
            processes::await_go();
            joined_with(Settings { arrival: ARRIVAL, ..settings() });
        }
        "fail-0" | "fail-1" => {
            let group = joined();
            group.barrier().unwrap();
            if role.ends_with(&group.rank().to_string()) {
                println!("failed {}", now());
                group.fail("the disk is full");
                exit(5);
            }
            println!("error {}", group.barrier().unwrap_err());
            // The watchdog ends it.
            sleep(Duration::from_secs(30));
        }
        "leave" => leave(),
        "outlive" => outlive(),
        other => panic!("there is no role {other}"),
    }
}

fn exchange() {
    let group = joined();
    assert!(current().is_some());
    let (rank, size) = (group.rank(), group.world_size());
    group.barrier().unwrap();
    for root in 0..size {
        let sent = format!("from {root}").repeat(root * 1000);
        let own = if rank == root { sent.as_bytes() } else { b"ignored" };
        assert_eq!(group.broadcast(own, root).unwrap(), sent.as_bytes());
    }
    assert!(group.broadcast(b"", size).unwrap_err().to_string().contains("no rank"));
    let gathered = group.all_gather(&vec![rank as u8 + 1; rank * 70_000]).unwrap();
    let expected: Vec<_> = (0..size).map(|rank| vec![rank as u8 + 1; rank * 70_000]).collect();
    assert_eq!(gathered, expected);
    assert_eq!(group.all_gather(b"").unwrap(), vec![Vec::<u8>::new(); size]);
    for _ in 0..40 {
        println!("number {}", group.next("samples").unwrap());
    }
    println!("other {}", group.next("others").unwrap());
    let place = Rendezvous::from_env().unwrap().unwrap();
    let error = join(place, settings(), Box::new(drop)).err().unwrap();
    assert!(error.to_string().contains("has joined a group already"), "{error}");
    group.leave().unwrap();
    assert!(group.barrier().unwrap_err().to_string().contains("has left"));
}

/// The last rank leaves first; the others go on for longer than the limit.
fn leave() {
    let group = joined();
    group.barrier().unwrap();
    if group.rank() + 1 == group.world_size() {
        group.leave().unwrap();
        return;
    }
    sleep(LIMIT + Duration::from_secs(1));
    if group.rank() == 1 {
        println!("error {}", group.barrier().unwrap_err());
    }
    group.next("still").unwrap();
    group.leave().unwrap();
}

/// Goes on after the group is lost: calls return errors, and the process ends by itself.
fn outlive() {
    let place = Rendezvous::from_env().unwrap().unwrap();
    let group = join(place, settings(), Box::new(|message| println!("lost {message}"))).unwrap();
    println!("joined");
    if group.rank() == 0 {
        sleep(Duration::from_secs(30));
    }
    println!("error {}", group.barrier().unwrap_err());
    println!("error {}", group.all_gather(b"x").unwrap_err());
    println!("error {}", group.next("x").unwrap_err());
    println!("error {}", group.leave().unwrap_err());
}

fn roles(role: &str, world_size: usize) -> Vec<Process> {
    start_all("process", role, world_size)
}

fn all_joined(processes: &mut [Process]) {
    processes.iter_mut().for_each(|process| process.await_line("joined"));
}

/// The message of a process whose watchdog has ended it.
fn lost(ended: &Ended) -> &str {
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    let messages = ended.values("lost");
    assert_eq!(messages.len(), 1, "{ended:?}");
    messages[0]
}

/// The time of a line.
fn time(ended: &Ended, name: &str) -> f64 {
    ended.values(name)[0].parse().unwrap()
}

/// What a message must say of a process.
fn names(message: &str, rank: usize, process: u32) {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let expected = format!("rank {rank} on host `{}` (process {process})", host.trim());
    assert!(message.contains(&expected), "{message:?} does not say {expected:?}");
}

#[test]
fn processes_exchange_bytes_and_share_counters() {
    for world_size in [2, 3] {
        let ended: Vec<_> = roles("exchange", world_size).into_iter().map(Process::end).collect();
        let mut numbers = BTreeSet::new();
        for process in &ended {
            process.succeeded();
            assert_eq!(process.values("lost"), [""; 0]);
            for number in process.values("number") {
                assert!(numbers.insert(number.parse::<usize>().unwrap()), "{number} was handed out twice");
            }
        }
        assert_eq!(numbers, (0..40 * world_size).collect());
        let mut others: Vec<_> = ended.iter().flat_map(|process| process.values("other")).collect();
        others.sort_unstable();
        assert_eq!(others, ["0", "1", "2"][..world_size]);
    }
}

/// Ends or stops a process while the others wait for it, and returns what they hear.
fn struck(signal: &str, victim: usize) {
    let mut processes = roles("wait", 3);
    all_joined(&mut processes);
    // Into the barrier.
    sleep(Duration::from_millis(300));
    let struck = processes.remove(victim);
    struck.signal(signal);
    let begin = now();
    for process in processes {
        let rank = process.rank;
        let ended = process.end();
        let message = lost(&ended);
        names(message, victim, struck.id());
        let noticed = time(&ended, "at") - begin;
        println!("{signal} of rank {victim}: rank {rank} hears of it after {noticed:.2} s: {message}");
        assert!(noticed < (LIMIT + SLACK).as_secs_f64(), "{noticed}");
    }
}

#[test]
fn a_killed_process_is_noticed_within_the_limit_by_rank_and_host() {
    struck("KILL", 2);
}

#[test]
fn a_stopped_process_is_noticed_within_the_limit_by_rank_and_host() {
    struck("STOP", 1);
}

#[test]
fn the_loss_of_the_process_that_keeps_the_store_is_noticed() {
    struck("KILL", 0);
    struck("STOP", 0);
}

#[test]
fn a_failure_reaches_the_others_at_once_with_its_cause() {
    for victim in [0, 1] {
        let mut processes = roles(&format!("fail-{victim}"), 3);
        all_joined(&mut processes);
        let id = processes[victim].id();
        let ended: Vec<_> = processes.into_iter().map(Process::end).collect();
        let failed = time(&ended[victim], "failed");
        assert_eq!(ended[victim].status.code(), Some(5), "{ended:?}");
        for (_, other) in ended.iter().enumerate().filter(|(rank, _)| *rank != victim) {
            let message = lost(other);
            names(message, victim, id);
            assert!(message.contains("the disk is full"), "{message}");
            // Silence would be noticed later.
            assert!(time(other, "at") - failed < LIMIT.as_secs_f64() / 2.0, "{ended:?}");
        }
    }
}

#[test]
fn a_group_whose_processes_do_not_all_come_is_an_error_in_time_that_names_them() {
    for error in refused(&[[0, 4], [2, 4]]) {
        assert!(error.contains("ranks 1, 3 of 4, which have not arrived"), "{error}");
        assert!(error.contains("at 127.0.0.1:") && error.contains("MASTER_PORT"), "{error}");
    }
    for error in refused(&[[1, 2]]) {
        assert!(error.contains("for rank 0") && error.contains("at 127.0.0.1:"), "{error}");
    }
}

/// The errors of processes that do not find a group.
fn refused(places: &[[usize; 2]]) -> Vec<String> {
    let port = free_port();
    let start = |place: &[usize; 2]| start("process", "absent", *place, port);
    let mut processes: Vec<_> = places.iter().map(start).collect();
    processes.iter_mut().for_each(|process| process.await_line("ready"));
    let begin = Instant::now();
    processes.iter_mut().for_each(Process::go);
    let ended: Vec<_> = processes.into_iter().map(Process::end).collect();
    assert!(begin.elapsed() < ARRIVAL + 2 * SLACK, "{ended:?}");
    assert!(ended.iter().all(|ended| ended.values("refused").len() == 1), "{ended:?}");
    ended.iter().map(|ended| ended.values("refused")[0].to_owned()).collect()
}

#[test]
fn processes_that_do_not_fit_together_are_refused() {
    let errors = refused(&[[0, 3], [1, 3], [1, 3]]);
    let twice = errors.iter().find(|error| error.contains("another process has joined"));
    assert!(twice.is_some_and(|error| error.contains("as rank 1")), "{errors:?}");
    for error in refused(&[[0, 2], [1, 3]]) {
        assert!(error.contains("WORLD_SIZE must not differ"), "{error}");
    }
}

#[test]
fn a_process_that_has_left_is_not_taken_for_dead() {
    let ended: Vec<_> = roles("leave", 3).into_iter().map(Process::end).collect();
    for process in &ended {
        process.succeeded();
        assert_eq!(process.values("lost"), [""; 0], "{process:?}");
    }
    assert!(ended[1].values("error").join("").contains("ranks [2] have left"), "{:?}", ended[1]);
}

#[test]
fn calls_of_a_lost_group_return_its_error_and_nothing_hangs() {
    for signal in ["KILL", "STOP"] {
        let mut processes = roles("outlive", 2);
        // Rank 0 keeps the store, and is the worst to lose.
        all_joined(&mut processes);
        sleep(Duration::from_millis(300));
        let survivor = processes.pop().unwrap();
        processes[0].signal(signal);
        let begin = Instant::now();
        let ended = survivor.end();
        assert!(begin.elapsed() < LIMIT + 2 * SLACK);
        ended.succeeded();
        let message = ended.values("lost");
        assert_eq!(message.len(), 1, "{ended:?}");
        names(message[0], 0, processes[0].id());
        assert_eq!(ended.values("error"), [message[0]; 4]);
    }
}
