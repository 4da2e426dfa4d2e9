//! Collective operations between real processes: values, whatever the dtype, and what they cost.

use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::processes::{Process, role, start_all};
use super::{Backend, Collectives, Rendezvous, Settings, collectives, join};

const DTYPES: [Kind; 3] = [Kind::Float, Kind::BFloat16, Kind::Int64];

/// Not a test of its own: the processes that the tests start.
#[test]
#[ignore = "a role that other tests start"]
fn process() {
    let Some(role) = role() else { return };
    println!();
    let place = Rendezvous::from_env().unwrap().unwrap();
    let settings = Settings { backend: Backend::Gloo, ..Settings::default() };
    let group = join(place, settings, Box::new(|message| panic!("{message}"))).unwrap();
    let collectives = collectives().unwrap();
    match role.as_str() {
        "values" => values(&*collectives),
        "cost" => cost(&*collectives),
        other => panic!("there is no role {other}"),
    }
    group.leave().unwrap();
}

/// Returns `[base, base + 1, ...]`; sums of these are exact in all dtypes here.
fn counting(base: usize, count: i64, kind: Kind) -> Tensor {
    Tensor::arange_start(base as i64, base as i64 + count, (Kind::Int64, Device::Cpu)).to_kind(kind)
}

fn values(group: &dyn Collectives) {
    let (rank, size) = (group.rank(), group.world_size());
    for kind in DTYPES {
        for count in [0, 1, 5] {
            let sum = |begin: i64, count: i64| -> Tensor {
                let each = (0..size).map(|rank| counting(10 * rank, begin + count, Kind::Int64));
                each.reduce(|sum, next| sum + next).unwrap().narrow(0, begin, count).to_kind(kind)
            };
            let mut reduced = counting(10 * rank, count, kind);
            group.all_reduce(&mut reduced).unwrap();
            assert_eq!(reduced, sum(0, count), "sum, {kind:?}");

            for root in 0..size {
                let mut sent = counting(10 * rank, count, kind);
                group.broadcast(&mut sent, root).unwrap();
                assert_eq!(sent, counting(10 * root, count, kind), "broadcast, {kind:?}");
            }

            let all = count * size as i64;
            let share = group.reduce_scatter(&counting(10 * rank, all, kind)).unwrap();
            assert_eq!(share, sum(count * rank as i64, count), "share of the sum, {kind:?}");
            assert_eq!(share.kind(), kind);

            let gathered = group.all_gather(&counting(10 * rank, count, kind)).unwrap();
            let parts: Vec<_> = (0..size).map(|rank| counting(10 * rank, count, kind)).collect();
            assert_eq!(gathered, Tensor::cat(&parts, 0), "gathering, {kind:?}");
        }
    }
    // Sums that are not exact are the same bytes everywhere.
    tch::manual_seed(rank as i64);
    let mut reduced = Tensor::randn([10_001], (Kind::Float, Device::Cpu));
    group.all_reduce(&mut reduced).unwrap();
    let bytes = Vec::<u8>::try_from(reduced.view_dtype(Kind::Uint8)).unwrap();
    let everywhere = group.all_gather_bytes(&bytes).unwrap();
    assert!(everywhere.iter().all(|other| *other == bytes));

    let uneven = group.reduce_scatter(&counting(0, 2 * size as i64 + 1, Kind::Float));
    assert!(size == 1 || uneven.unwrap_err().to_string().contains("do not divide"));
    let square = Tensor::zeros([2, 2], (Kind::Float, Device::Cpu));
    assert!(group.all_gather(&square).unwrap_err().to_string().contains("not flat"));
}

#[test]
fn collectives_give_the_same_values_in_all_processes_and_dtypes() {
    for world_size in [2, 3, 4] {
        for process in start_all("process_group::tests::process", "values", world_size) {
            process.end().succeeded();
        }
    }
}

/// Bytes that this machine has sent to itself.
fn sent_over_loopback() -> u64 {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:")).unwrap();
    line.split_whitespace().nth(8).unwrap().parse().unwrap()
}

/// Prints seconds and bytes of operations on 100 MB of float32.
fn cost(group: &dyn Collectives) {
    // Divides among 2, 3 and 4.
    const COUNT: i64 = 25_000_008;
    const ROUNDS: usize = 7;
    let all = Tensor::ones([COUNT], (Kind::Float, Device::Cpu));
    let share = all.narrow(0, 0, COUNT / group.world_size() as i64).copy();
    let mut reduced = all.copy();
    let measure = |name: &str, operation: &mut dyn FnMut()| {
        let mut seconds = Vec::new();
        let mut sent = Vec::new();
        for _ in 0..ROUNDS {
            group.all_gather_bytes(b"x").unwrap();
            let (begin, before) = (Instant::now(), sent_over_loopback());
            operation();
            group.all_gather_bytes(b"x").unwrap();
            seconds.push(begin.elapsed().as_secs_f64());
            sent.push((sent_over_loopback() - before) as f64 / 1e6);
        }
        seconds.sort_by(f64::total_cmp);
        sent.sort_by(f64::total_cmp);
        println!(
            "cost {name}: median {:.3} s, least {:.3} s; {:.1} MB sent by all",
            seconds[ROUNDS / 2],
            seconds[0],
            sent[ROUNDS / 2]
        );
    };
    measure("all_reduce", &mut || group.all_reduce(&mut reduced).unwrap());
    measure("reduce_scatter", &mut || drop(group.reduce_scatter(&all).unwrap()));
    measure("all_gather", &mut || drop(group.all_gather(&share).unwrap()));
}

#[test]
#[ignore = "a measurement: cargo test -p isr-torch --lib cost_of -- --ignored --nocapture"]
fn cost_of_operations_on_100_mb() {
    for world_size in [2, 3] {
        let ended =
            start_all("process_group::tests::process", "cost", world_size).into_iter().map(Process::end);
        let ended: Vec<_> = ended.collect();
        ended[0].succeeded();
        for line in ended[0].values("cost") {
            println!("{world_size} processes, {line}");
        }
    }
}
