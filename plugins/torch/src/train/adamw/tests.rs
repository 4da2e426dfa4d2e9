//! Numbers of the optimiser.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::manifest::Manifest;
use crate::tensors::to_vec;
use crate::train::parallel::Tally;

pub(super) const PLAIN: AdamWSettings = AdamWSettings {
    betas: [0.9, 0.999],
    epsilon: 1e-8,
    weight_decay: 0.0,
    eight_bit: false,
    on_host: false,
    together: 0,
    divided: false,
};

/// An optimiser of a single process.
pub(super) fn alone(parameters: Vec<(String, Tensor)>, settings: AdamWSettings) -> AdamW {
    AdamW::new(parameters, settings, Processes::new(None))
}

/// A warm-up begins with a step of rate zero, whose gradient `torch.optim.AdamW` remembers as any other.
#[test]
fn a_step_of_rate_zero_counts_in_the_moments() {
    let weight = Tensor::ones([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let mut adamw =
        alone(vec![("w".to_owned(), weight.shallow_clone())], AdamWSettings { weight_decay: 0.1, ..PLAIN });
    for (gradient, rate) in [(2.0, 0.0), (-1.0, 1e-2)] {
        adamw.zero_gradients();
        (&weight * gradient).sum(Kind::Float).backward();
        adamw.step(rate, 1.0).unwrap();
    }
    let (first, second) = (0.9 * 0.1 * 2.0 - 0.1, 0.999 * 0.001 * 4.0 + 0.001);
    let change =
        1e-2 * (first / (1.0 - 0.9_f64.powi(2))) / ((second / (1.0 - 0.999_f64.powi(2))).sqrt() + 1e-8);
    let expected = 1.0 - 1e-2 * 0.1 - change;
    let found = f64::try_from(weight.detach().get(0).to_kind(Kind::Double)).unwrap();
    assert!((found - expected).abs() < 1e-6, "{found} {expected}");
}

/// 255 gradients of 2^-9 beside one of 1 are each lost in bfloat16, whose neighbours of 1 are 2^-8 and 2^-7 away.
#[test]
fn gradients_of_micro_batches_add_up_in_float32() {
    let norm = |kind: Kind| {
        let weight = Tensor::ones([4], (kind, Device::Cpu)).set_requires_grad(true);
        let parameters = vec![("w".to_owned(), weight.shallow_clone())];
        let mut adamw = alone(parameters, PLAIN);
        adamw.zero_gradients();
        for gradient in std::iter::once(1.0).chain(std::iter::repeat_n(1.0 / 512.0, 255)) {
            (&weight * gradient).sum(kind).backward();
            adamw.collect_gradients().unwrap();
        }
        let norm = adamw.gradient_norm().unwrap();
        adamw.zero_gradients();
        assert_eq!(adamw.gradient_norm().unwrap(), 0.0);
        norm
    };
    let expected = 2.0 * (1.0 + 255.0 / 512.0);
    assert_eq!([norm(Kind::Float), norm(Kind::BFloat16)], [expected; 2]);
}

/// Steps of 1e-4 are lost in bfloat16 near 1, whose neighbours are 4e-3 away; the master keeps them.
#[test]
fn a_bfloat16_weight_is_its_float32_master_rounded() {
    let run = |kind: Kind| {
        let weight = Tensor::ones([3], (kind, Device::Cpu)).set_requires_grad(true);
        let mut adamw = alone(vec![("w".to_owned(), weight.shallow_clone())], PLAIN);
        for _ in 0..100 {
            adamw.zero_gradients();
            (&weight * 0.5).sum(kind).backward();
            adamw.step(1e-4, 1.0).unwrap();
        }
        (f64::try_from(weight.detach().get(0).to_kind(Kind::Double)).unwrap(), adamw)
    };
    let (exact, _) = run(Kind::Float);
    let (rounded, adamw) = run(Kind::BFloat16);
    assert!((exact - 0.99).abs() < 1e-4, "{exact}");
    let nearest = f64::try_from(Tensor::from(exact as f32).to_kind(Kind::BFloat16).to_kind(Kind::Double));
    assert_eq!(rounded, nearest.unwrap());
    let state = adamw.state().unwrap();
    let kinds = ["first.w", "second.w", "master.w"].map(|name| state.tensors[name].kind());
    assert_eq!(kinds, [Kind::Float; 3]);
    assert!((f64::try_from(state.tensors["master.w"].get(0)).unwrap() - exact).abs() < 1e-6);
}

/// Numbers in [-1, 1) that any language computes alike; see `tests/golden/adamw_8bit.py`.
fn uniform(stream: i64, count: i64) -> Vec<f64> {
    let number = |index: i64| {
        let mixed = (index as u64 + stream as u64 * 5000).wrapping_mul(2_654_435_761) % (1 << 32);
        mixed as f64 / 2_f64.powi(31) - 1.0
    };
    (0..count).map(number).collect()
}

/// Both signs; magnitudes from 1/64 to 1 within each block of 8-bit moments.
pub(super) fn gradient(step: i64, count: i64) -> Tensor {
    let scaled = |x: f64| {
        let exponent = -2 * (x.abs() * 1000.0 % 3.0).floor() as i32 - 2;
        ((1.0 + 3.0 * x.abs()) * 2_f64.powi(exponent)).copysign(x) as f32
    };
    Tensor::from_slice(&uniform(step, count).into_iter().map(scaled).collect::<Vec<f32>>())
}

/// Parameters of several sizes, above and below what is quantised, with random values.
pub(super) fn parameters(kind: Kind) -> Vec<(String, Tensor)> {
    let shapes: [&[i64]; 5] = [&[70, 90], &[3], &[5000], &[1], &[11, 11]];
    let value = |(index, shape): (usize, &&[i64])| {
        let values = Tensor::from_slice(&uniform(index as i64, shape.iter().product())).view(*shape);
        (format!("p{index}"), values.to_kind(kind).set_requires_grad(true))
    };
    shapes.iter().enumerate().map(value).collect()
}

/// Takes a step with gradients of the step's own; parameter `without` has none. Of several processes, each has those of some
/// parameters.
pub(super) fn step(adamw: &mut AdamW, step: i64, without: Option<usize>) {
    let (rank, count) = (adamw.processes.rank(), adamw.processes.count());
    adamw.zero_gradients();
    for (index, (_, parameter)) in adamw.parameters.iter().enumerate() {
        if Some(index) != without && (index + step as usize) % count == rank {
            let gradient = gradient(step + index as i64, parameter.numel() as i64);
            let gradient = gradient.view(parameter.size().as_slice()).to_kind(parameter.kind());
            (parameter * gradient).sum(parameter.kind()).backward();
        }
    }
    adamw.collect_gradients().unwrap();
    let found = Tally { has_gradient: adamw.has_gradient().unwrap(), ..Tally::default() };
    let found = adamw.processes.total(Ok(found)).unwrap();
    adamw.sum_gradients(&found.has_gradient, None).unwrap();
    adamw.step(1e-3, 0.7).unwrap();
}

/// Weights and state after some steps, as bytes.
pub(super) fn bytes(adamw: &AdamW) -> BTreeMap<String, Vec<u8>> {
    let mut all = adamw.state().unwrap().tensors;
    all.extend(adamw.parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())));
    all.into_iter().map(|(name, tensor)| (name, crate::tensors::bytes_of(&tensor).unwrap())).collect()
}

/// Settings that decide where and how the same update is computed.
pub(super) fn ways() -> [AdamWSettings; 4] {
    let eight_bit = AdamWSettings { eight_bit: true, ..PLAIN };
    [
        AdamWSettings { on_host: true, ..PLAIN },
        AdamWSettings { together: 6000, ..PLAIN },
        eight_bit,
        AdamWSettings { on_host: true, ..eight_bit },
    ]
}

#[test]
fn parameters_that_share_a_state_and_states_on_the_host_change_nothing() {
    let [on_host, together, eight_bit, eight_bit_on_host] = ways();
    for kind in [Kind::Float, Kind::BFloat16] {
        let after = |settings: AdamWSettings| {
            let mut adamw = alone(parameters(kind), AdamWSettings { weight_decay: 0.1, ..settings });
            // A parameter may have no gradient at first, or later.
            for (at, without) in [Some(3), None, Some(1), None].into_iter().enumerate() {
                step(&mut adamw, at as i64, without);
            }
            (bytes(&adamw), adamw.groups.len())
        };
        let (plain, apart) = after(PLAIN);
        assert_eq!(apart, 5);
        assert_eq!(after(on_host), (plain.clone(), 5), "{kind:?}");
        assert_eq!(after(together), (plain, 2), "{kind:?}");
        assert_eq!(after(eight_bit), after(eight_bit_on_host), "{kind:?}");
    }
}

#[test]
fn a_saved_state_continues_to_the_same_bytes() {
    for settings in ways().into_iter().chain([PLAIN]) {
        for kind in [Kind::Float, Kind::BFloat16] {
            let mut whole = alone(parameters(kind), settings);
            (0..2).for_each(|at| step(&mut whole, at, Some(1)));
            let folder = tempfile::tempdir().unwrap();
            whole.state().unwrap().save(folder.path(), &mut Manifest::new()).unwrap();
            let copy = |(name, tensor): &(String, Tensor)| {
                (name.clone(), tensor.detach().copy().set_requires_grad(true))
            };
            let mut resumed = alone(whole.parameters.iter().map(copy).collect(), settings);
            resumed.restore(&AdamWState::read(folder.path(), &resumed).unwrap()).unwrap();
            for adamw in [&mut whole, &mut resumed] {
                (2..4).for_each(|at| step(adamw, at, None));
            }
            assert_eq!(bytes(&whole), bytes(&resumed), "{settings:?} {kind:?}");
        }
    }
}

#[test]
fn a_state_of_another_optimiser_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut adamw = alone(parameters(Kind::Float), PLAIN);
    step(&mut adamw, 0, None);
    adamw.state().unwrap().save(folder.path(), &mut Manifest::new()).unwrap();
    let other = alone(parameters(Kind::Float), AdamWSettings { eight_bit: true, ..PLAIN });
    let error = AdamWState::read(folder.path(), &other).err().unwrap().to_string();
    assert!(error.contains("first.p0 has the dtype of another `training.optimizer`"), "{error}");
}

fn golden() -> serde_json::Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/adamw_8bit.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn floats(value: &serde_json::Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn codes(value: &serde_json::Value) -> Vec<u8> {
    let digits = value.as_str().unwrap().as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Share of equal codes, and the largest difference.
fn difference(ours: &Tensor, theirs: &[u8]) -> (f64, u8) {
    let ours = crate::tensors::bytes_of(ours).unwrap();
    assert_eq!(ours.len(), theirs.len());
    let equal = ours.iter().zip(theirs).filter(|(a, b)| a == b).count();
    let largest = ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b)).max();
    (equal as f64 / theirs.len() as f64, largest.unwrap())
}

#[test]
fn eight_bit_blocks_hold_the_nearest_of_the_documented_values() {
    let golden = golden();
    let maps = dynamic8::Maps::on(Device::Cpu).unwrap();
    for (name, signed) in [("signed", true), ("unsigned", false)] {
        let (ours, theirs) = (dynamic8::dynamic_map(signed), floats(&golden[name]));
        assert_eq!(theirs.len(), 256);
        assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() <= 2e-7 * b.abs()), "{name} {ours:?}");
        let sample = gradient(9, 5000);
        let sample = if signed { sample } else { &sample * &sample };
        let mut state = dynamic8::Quantised::zeros(5000, signed, Device::Cpu).unwrap();
        assert_eq!(to_vec(&state.values(&(0..5000), &maps).unwrap()).unwrap(), vec![0.0; 5000]);
        state.store(&(0..5000), &sample, &maps).unwrap();
        assert_eq!(to_vec(&state.scales).unwrap(), floats(&golden["encoded"][format!("{name}_scales")]));
        let (equal, largest) = difference(&state.codes, &codes(&golden["encoded"][name]));
        assert!(equal > 0.9995 && largest <= 1, "{name}: {equal} {largest}");
        // Relative to the block's largest magnitude, the widest gap between two values is 0.0141 or 0.007.
        let back = state.values(&(0..5000), &maps).unwrap();
        let scales = state.scales.unsqueeze(1).expand([20, 256], false).reshape([-1]).narrow(0, 0, 5000);
        let worst = f64::try_from(((back - sample) / scales).abs().max()).unwrap();
        assert!(worst < if signed { 0.0071 } else { 0.0037 }, "{name}: {worst}");
    }
}

#[test]
fn steps_with_eight_bit_moments_follow_the_reference() {
    let golden = golden();
    let start: Vec<f32> = uniform(0, 5000).iter().map(|&value| value as f32).collect();
    let weight = Tensor::from_slice(&start).set_requires_grad(true);
    let parameters = vec![("w".to_owned(), weight.shallow_clone())];
    let mut adamw = alone(parameters, AdamWSettings { eight_bit: true, weight_decay: 0.1, ..PLAIN });
    for step in 1..=golden["steps"].as_i64().unwrap() {
        adamw.zero_gradients();
        (&weight * gradient(step, 5000)).sum(Kind::Float).backward();
        adamw.step(1e-3, 1.0).unwrap();
    }
    let ours = to_vec(&weight).unwrap();
    let ours = ours.iter().step_by(37);
    let worst = ours.zip(floats(&golden["weights"])).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // Six steps change a weight by up to 6e-3.
    assert!(worst < 2e-5, "{worst}");
    let state = adamw.state().unwrap();
    for moment in ["first", "second"] {
        let codes = codes(&golden[moment]);
        let (equal, largest) = difference(&state.tensors[&format!("{moment}.w")], &codes);
        assert!(equal > 0.995 && largest <= 2, "{moment}: {equal} {largest}");
    }
}
