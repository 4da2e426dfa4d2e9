//! Steps of several processes, as threads, against those of one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_api::{
    Continuation, Frames, Prompt, PromptedTarget, StepReport, Target, TrainExample, TrainStep, VideoInput,
};
use tch::{Device, Kind};

use super::objectives::{Fragile, Loss, Objective};
use super::threads::Threads;
use crate::chat::Chat;
use crate::lora::{Adapter, LoraConfig};
use crate::model::VideoLmm;
use crate::model::families::read_config;
use crate::process_group::Collectives;
use crate::tensors::to_vec;
use crate::train::{ParallelConfig, ShardConfig, Trainer, TrainingConfig};

const STEPS: u64 = 5;
const RATE: f64 = 1e-4;

/// A preference pair with all views; `number` decides tokens, lengths and video.
fn example(number: usize) -> TrainExample {
    let prompt = |shift: usize| {
        let rgb = (0..2 * 48 * 48 * 3).map(|at| ((at * (3 + number) + shift * 31) % 251) as u8).collect();
        let frames = Arc::new(Frames::new(48, 48, rgb, vec![0.0, 1.0]).unwrap());
        let scene = VideoInput { video: "v".into(), frames, features: None };
        Prompt::about(&scene, format!("question {number}?"))
    };
    let target = |start: usize, length: usize| {
        let id = |at: usize| (start * 37 + number * 11 + at * 3) as u32 % 200 + 3;
        // About the policy's; those of mismatched answers (3) below, so that their mean log-ratio is above 0.
        let reference =
            |at: usize| -15.0 - 0.5 * ((start + at + number) % 5) as f32 - 4.0 * (start / 3) as f32;
        Target {
            continuation: Continuation::Tokens((0..length).map(id).collect()),
            reference: Some((0..length).map(reference).collect()),
        }
    };
    let chosen = target(1, 3 + number % 4);
    TrainExample {
        corrupted: Some(PromptedTarget { prompt: prompt(7), target: chosen.clone() }),
        mismatched: Some(target(3, 2 + number % 3)),
        ..TrainExample::new(prompt(0), chosen, Some(target(2, 6 - number % 4)))
    }
}

/// What a process has at the end.
struct End {
    reports: Vec<StepReport>,
    weights: BTreeMap<String, Vec<f32>>,
    /// Elements of each trained parameter.
    trained: Vec<usize>,
    /// Elements of each weight of each decoder layer.
    layers: Vec<Vec<usize>>,
    /// Bytes of the optimiser's state.
    state: u64,
    /// Bytes of tensors that were sent.
    sent: u64,
}

#[derive(Clone)]
struct Setting {
    /// Checkpoint among the goldens.
    model: &'static str,
    training: TrainingConfig,
    loss: Loss,
    /// Examples of each step.
    batches: Vec<Vec<usize>>,
}

impl Setting {
    fn new(loss: Loss) -> Self {
        let batch = |step: usize| (0..5 + step % 2).map(|at| step + at).collect();
        Self {
            model: "tiny_llava",
            training: TrainingConfig::default(),
            loss,
            batches: (0..STEPS as usize).map(batch).collect(),
        }
    }

    fn lora(mut self) -> Self {
        self.training.lora = Some(LoraConfig { rank: 4, ..LoraConfig::default() });
        self
    }

    fn sharded(mut self, shard: ShardConfig) -> Self {
        self.training.parallel = ParallelConfig { shard };
        self
    }

    fn micro_batches_of(mut self, examples: usize) -> Self {
        self.training.micro_batch = examples;
        self
    }
}

/// Returns a process's part of a batch: neighbours, as even as may be.
pub(crate) fn part(all: &[usize], rank: usize, count: usize) -> Vec<usize> {
    all[all.len() * rank / count..all.len() * (rank + 1) / count].to_vec()
}

pub(crate) fn model_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tiny_llava")
}

fn load(training: &TrainingConfig) -> (VideoLmm, Chat) {
    load_from(&model_folder(), training)
}

fn load_from(folder: &Path, training: &TrainingConfig) -> (VideoLmm, Chat) {
    let config = read_config(folder).unwrap();
    let parts = training.parts(&config);
    let lora = training.lora.clone();
    let adapter =
        lora.map(|lora| Adapter::create(lora, 3, folder, config.names, parts, Device::Cpu).unwrap());
    let model = VideoLmm::load(folder, adapter, Kind::Float, Device::Cpu).unwrap();
    let chat = Chat::read(folder, &model.config, None, &crate::chat::ReasoningConfig::default()).unwrap();
    (model, chat)
}

/// Runs `work` on each of `count` threads, with their collectives; without of a single one.
pub(crate) fn on_threads<T: Send>(
    count: usize,
    work: impl Fn(usize, Option<Arc<Threads>>) -> T + Sync,
) -> Vec<T> {
    tch::set_num_threads(1);
    if count == 1 {
        return vec![work(0, None)];
    }
    std::thread::scope(|scope| {
        let work = &work;
        let groups = Threads::group(count).into_iter().enumerate();
        let threads: Vec<_> =
            groups.map(|(rank, group)| scope.spawn(move || work(rank, Some(group)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

pub(crate) fn collectives(group: Option<&Arc<Threads>>) -> Option<Arc<dyn Collectives>> {
    group.map(|group| Arc::clone(group) as Arc<dyn Collectives>)
}

pub(crate) fn step(numbers: &[usize], step: u64) -> TrainStep {
    let examples = numbers.iter().map(|&number| example(number)).collect();
    TrainStep { examples, step, learning_rate: RATE, max_grad_norm: Some(0.05), seed: step }
}

fn train(count: usize, setting: &Setting) -> Vec<End> {
    let Setting { model, training, loss, batches } = setting;
    let folder = model_folder().with_file_name(model);
    on_threads(count, |rank, group| {
        let (mut model, chat) = load_from(&folder, training);
        let mut trainer = Trainer::new(training.clone(), &model, collectives(group.as_ref())).unwrap();
        let objective = Objective::new(*loss);
        let mut reports = Vec::new();
        for (index, batch) in batches.iter().enumerate() {
            let step = step(&part(batch, rank, count), index as u64);
            reports.push(trainer.step(&mut model, &chat, &step, &objective).unwrap());
        }
        let trained = match model.weights.adapter() {
            Some(adapter) => adapter.parameters(),
            None => crate::train::weights_of(&training.parts(&model.config), &model),
        };
        End {
            reports,
            weights: trained.iter().map(|(name, tensor)| (name.clone(), to_vec(tensor).unwrap())).collect(),
            trained: trained.iter().map(|(_, tensor)| tensor.numel()).collect(),
            layers: crate::train::layers_of(&model)
                .iter()
                .map(|layer| layer.iter().map(|(_, weight)| weight.numel()).collect())
                .collect(),
            state: trainer.held_bytes(),
            sent: group.map_or(0, |group| group.sent()),
        }
    })
}

/// Returns the largest difference of a weight.
fn distance(one: &End, other: &End) -> f32 {
    assert!(one.weights.keys().eq(other.weights.keys()));
    let far = |(one, other): (&Vec<f32>, &Vec<f32>)| {
        one.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
    };
    one.weights.values().zip(other.weights.values()).map(far).fold(0.0, f32::max)
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-4 * other.abs().max(1e-2)
}

/// Checks processes against one, and against each other.
fn compare(processes: &[End], one: &End, what: &str) {
    for (rank, end) in processes.iter().enumerate() {
        assert_eq!(end.reports, processes[0].reports, "{what}: reports of rank {rank}");
        assert!(end.weights == processes[0].weights, "{what}: weights of rank {rank}");
    }
    let end = &processes[0];
    for (step, (ours, theirs)) in end.reports.iter().zip(&one.reports).enumerate() {
        assert_eq!(ours.tokens, theirs.tokens, "{what} step {step}");
        assert!(close(ours.loss, theirs.loss), "{what} step {step}: {ours:?} {theirs:?}");
        assert!(close(ours.grad_norm, theirs.grad_norm), "{what} step {step}: {ours:?} {theirs:?}");
        assert!(theirs.grad_norm > 0.05, "{what}: clipping is not active: {theirs:?}");
        assert!(ours.metrics.keys().eq(theirs.metrics.keys()), "{what}: {ours:?} {theirs:?}");
        for (name, value) in &ours.metrics {
            assert!(close(*value, theirs.metrics[name]), "{what} step {step} {name}: {ours:?} {theirs:?}");
        }
    }
    let far = distance(end, one);
    assert!(far < 1e-5, "{what}: weights differ by {far}");
}

const SHARDS: [ShardConfig; 3] = [ShardConfig::None, ShardConfig::Optimizer, ShardConfig::Full];

fn check(setting: &Setting, counts: &[usize]) {
    let one = train(1, setting).remove(0);
    for shard in SHARDS {
        for &count in counts {
            let ends = train(count, &setting.clone().sharded(shard));
            compare(&ends, &one, &format!("{:?} {shard:?} {count}", setting.loss));
        }
    }
}

#[test]
fn processes_train_full_weights_as_one_does() {
    for loss in Loss::ALL {
        check(&Setting::new(loss), if loss == Loss::Dpo { &[1, 2, 3, 4] } else { &[2, 4] });
    }
}

/// Whole experts are among the weights of a layer, and steps in which no token goes through some of them are, too.
#[test]
fn processes_train_experts_as_one_does() {
    check(&Setting { model: "tiny_qwen3_vl_moe", ..Setting::new(Loss::Dpo) }, &[2, 3]);
}

#[test]
fn processes_train_adapters_as_one_does() {
    for loss in Loss::ALL {
        check(&Setting::new(loss).lora(), if loss == Loss::Dpo { &[2, 3] } else { &[2] });
    }
}

/// Batches of one to three examples, so that up to three of four processes have none.
#[test]
fn a_process_without_examples_contributes_nothing_and_steps_all_the_same() {
    for loss in [Loss::Dpo, Loss::Kto] {
        let batches = vec![vec![0], vec![1, 2], vec![3, 4, 5], vec![6], vec![7, 8]];
        check(&Setting { batches, ..Setting::new(loss) }, &[4]);
    }
}

/// Of one process, too, the whole batch decides. The control evaluates micro-batches apart.
#[test]
fn a_loss_that_compares_across_the_batch_does_not_depend_on_micro_batches() {
    for loss in [Loss::Kto, Loss::Aot] {
        let whole = train(1, &Setting::new(loss)).remove(0);
        for (examples, count) in [(1, 1), (2, 1), (2, 2), (1, 3)] {
            let ends = train(count, &Setting::new(loss).micro_batches_of(examples));
            compare(&ends, &whole, &format!("{loss:?} {examples} {count}"));
        }
        let in_micro_batches = |across_batch| {
            let (mut model, chat) = load(&TrainingConfig::default());
            let config = TrainingConfig { micro_batch: 2, ..TrainingConfig::default() };
            let mut trainer = Trainer::new(config, &model, None).unwrap();
            let objective = Objective { loss, across_batch };
            trainer.step(&mut model, &chat, &step(&[0, 1, 2, 3, 4], 0), &objective).unwrap()
        };
        let (right, wrong) = (in_micro_batches(true), in_micro_batches(false));
        assert_eq!(right.tokens, wrong.tokens);
        assert!((right.grad_norm / wrong.grad_norm - 1.0).abs() > 1e-3, "{right:?} {wrong:?}");
    }
}

/// Numbers of micro-batches differ between processes.
#[test]
fn gradient_checkpointing_and_micro_batches_on_each_process_change_nothing() {
    for (loss, shard) in [
        (Loss::Dpo, ShardConfig::Optimizer),
        (Loss::Dpo, ShardConfig::Full),
        (Loss::Kto, ShardConfig::Full),
    ] {
        let one = train(1, &Setting::new(loss)).remove(0);
        let mut setting = Setting::new(loss).micro_batches_of(1).sharded(shard);
        setting.training.gradient_checkpointing = true;
        compare(&train(2, &setting), &one, &format!("checkpointing {loss:?} {shard:?}"));
    }
}

/// In a ring, each process sends every share of a sum but one to the next, and as many of the result.
#[test]
fn bytes_sent_are_those_that_the_algorithms_need() {
    for setting in [Setting::new(Loss::Dpo), Setting::new(Loss::Dpo).lora()] {
        for count in [2, 3, 4] {
            let ends = train(count, &setting.clone().sharded(ShardConfig::None));
            let elements: usize = ends[0].trained.iter().sum();
            let needed = STEPS as usize * 2 * 4 * elements * (count - 1) / count;
            let sent = ends[0].sent as usize;
            assert!(sent.abs_diff(needed) <= STEPS as usize, "{sent} {needed}");
            let ends = train(count, &setting.clone().sharded(ShardConfig::Optimizer));
            let share: usize = ends[0].trained.iter().map(|elements| elements.div_ceil(count)).sum();
            // Gradients to the shares, and weights back.
            assert_eq!(ends[0].sent as usize, STEPS as usize * (4 + 4) * share * (count - 1));
            assert!(share * count < elements + count * ends[0].trained.len());
            let ends = train(count, &setting.clone().sharded(ShardConfig::Full));
            let layers = &ends[0].layers;
            let weights = |layers: &[Vec<usize>]| -> usize {
                layers.iter().flatten().map(|elements| elements.div_ceil(count)).sum()
            };
            // The last layer's weights stay for the backward pass; frozen ones are gathered once more at the end.
            let (last, all) = (layers.len() - 1, weights(layers));
            let frozen = if setting.training.lora.is_some() { all } else { 0 };
            let gathered = weights(&layers[..last]) + frozen;
            let needed = STEPS as usize * ((4 + 4) * share + 4 * gathered) * (count - 1);
            assert_eq!(ends[0].sent as usize, needed);
        }
    }
}

#[test]
fn a_process_holds_its_share_of_the_optimisers_state() {
    let whole = train(1, &Setting::new(Loss::Dpo)).remove(0);
    let elements: usize = whole.trained.iter().sum();
    assert_eq!(whole.state as usize, 8 * elements);
    for count in 2..=4 {
        let ends = train(count, &Setting::new(Loss::Dpo).sharded(ShardConfig::Optimizer));
        assert_eq!(ends.iter().map(|end| end.state).sum::<u64>(), whole.state, "{count}");
        for end in &ends {
            let padding = 8 * whole.trained.len() as u64;
            assert!(end.state <= whole.state / count as u64 + padding, "{count}: {}", end.state);
        }
    }
}

/// A failure of one process is that of all, and leaves the weights as they were, so that the next step is that of a new training.
fn check_failure(failure: impl Fn(usize, TrainStep) -> (TrainStep, Fragile) + Sync, expected: &str) {
    for shard in SHARDS {
        let outcomes = on_threads(3, |rank, group| {
            let config = TrainingConfig { parallel: ParallelConfig { shard }, ..TrainingConfig::default() };
            let steps = |fails: bool| {
                let (mut model, chat) = load(&config);
                let group = collectives(group.as_ref());
                let mut trainer = Trainer::new(config.clone(), &model, group).unwrap();
                let good = step(&part(&[0, 1, 2, 3], rank, 3), 0);
                let refused = fails.then(|| {
                    let (bad, objective) = failure(rank, good.clone());
                    trainer.step(&mut model, &chat, &bad, &objective).unwrap_err().to_string()
                });
                (refused, trainer.step(&mut model, &chat, &good, &Objective::new(Loss::Dpo)).unwrap())
            };
            let ((refused, after), (_, fresh)) = (steps(true), steps(false));
            assert_eq!(after, fresh, "{shard:?}");
            refused.unwrap()
        });
        assert_eq!(outcomes, [expected; 3], "{shard:?}");
    }
}

#[test]
fn a_bad_example_of_one_process_fails_the_step_on_all_and_the_next_step_goes_on() {
    let failure = |rank, mut step: TrainStep| {
        if rank == 1 {
            step.examples[0].chosen.reference = None;
        }
        (step, Fragile { pairs: 0 })
    };
    check_failure(failure, "process 1: the objective needs the reference's log-probs");
}

#[test]
fn an_objective_that_fails_on_one_process_fails_on_all() {
    let failure = |_, step| (step, Fragile { pairs: 2 });
    check_failure(failure, "process 2: the objective failed: broken");
}
