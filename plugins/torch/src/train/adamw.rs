//! AdamW (arXiv 1711.05101) with the update of `torch.optim.AdamW` and a serialisable state, which tch does not
//! expose for libtorch's own. Weights in bfloat16 have float32 master copies.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::{Result, TorchError};
use crate::manifest::Manifest;
use crate::tensors::{read_tensors, write_tensors};

/// Moments of one parameter, in float32.
struct Moments {
    first: Tensor,
    second: Tensor,
    /// Float32 master copy of a parameter of a narrower type.
    master: Option<Tensor>,
}

/// AdamW optimiser.
pub(crate) struct AdamW {
    parameters: Vec<(String, Tensor)>,
    /// Float32 sums of the gradients of parameters of a narrower type, over the micro-batches of a step.
    sums: Vec<Option<Tensor>>,
    moments: BTreeMap<String, Moments>,
    steps: i64,
    betas: [f64; 2],
    epsilon: f64,
    weight_decay: f64,
}

impl AdamW {
    pub(super) fn new(
        parameters: Vec<(String, Tensor)>,
        betas: [f64; 2],
        epsilon: f64,
        weight_decay: f64,
    ) -> Self {
        let sums = parameters.iter().map(|_| None).collect();
        Self { parameters, sums, moments: BTreeMap::new(), steps: 0, betas, epsilon, weight_decay }
    }

    /// Returns the bytes of gradients, moments and master copies on the parameters' device.
    pub(super) fn state_bytes(&self) -> u64 {
        let of = |(_, parameter): &(String, Tensor)| {
            let width = parameter.kind().elt_size_in_bytes() as u64;
            // Of a narrower type: a master, and the float32 sum of micro-batches.
            let copies = if parameter.kind() == Kind::Float { 0 } else { 8 };
            parameter.numel() as u64 * (width + 8 + copies)
        };
        self.parameters.iter().map(of).sum()
    }

    /// Resets all moments and the step count.
    pub(super) fn reset(&mut self) {
        self.moments.clear();
        self.steps = 0;
    }

    /// Sets all gradients to zero.
    pub(super) fn zero_gradients(&mut self) {
        for (_, parameter) in &mut self.parameters {
            parameter.zero_grad();
        }
        self.sums.fill_with(|| None);
    }

    /// Moves the gradients of a micro-batch into their float32 sums. Gradients of float32 parameters add up in place.
    pub(super) fn collect_gradients(&mut self) -> Result<()> {
        for ((_, parameter), sum) in self.parameters.iter_mut().zip(&mut self.sums) {
            let gradient = parameter.f_grad()?;
            if parameter.kind() == Kind::Float || !gradient.defined() {
                continue;
            }
            let exact = gradient.f_to_kind(Kind::Float)?;
            match sum {
                Some(sum) => drop(sum.f_add_(&exact)?),
                None => *sum = Some(exact),
            }
            parameter.zero_grad();
        }
        Ok(())
    }

    /// Returns the gradient of a parameter over the whole step; `None` if it has none.
    fn gradient(&self, index: usize) -> Result<Option<Tensor>> {
        if let Some(sum) = &self.sums[index] {
            return Ok(Some(sum.shallow_clone()));
        }
        let gradient = self.parameters[index].1.f_grad()?;
        Ok(gradient.defined().then_some(gradient))
    }

    /// Returns the global L2 norm of the gradient, accumulated in float64.
    pub(super) fn gradient_norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for index in 0..self.parameters.len() {
            if let Some(gradient) = self.gradient(index)? {
                let norm = gradient.f_to_kind(Kind::Float)?.f_norm()?;
                sum += f64::try_from(norm.f_to_kind(Kind::Double)?)?.powi(2);
            }
        }
        Ok(sum.sqrt())
    }

    /// Takes a step with gradients scaled by `clip`. Parameters without a gradient are left unchanged.
    pub(super) fn step(&mut self, learning_rate: f64, clip: f64) -> Result<()> {
        self.steps += 1;
        tch::no_grad(|| {
            for index in 0..self.parameters.len() {
                self.update(index, learning_rate, clip)?;
            }
            Ok(())
        })
    }

    fn update(&mut self, index: usize, learning_rate: f64, clip: f64) -> Result<()> {
        let Some(gradient) = self.gradient(index)? else { return Ok(()) };
        let (name, parameter) = &mut self.parameters[index];
        let moments = match self.moments.entry(name.clone()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => place.insert(Moments::new(parameter)?),
        };
        let [beta1, beta2] = self.betas;
        let steps = self.steps as i32;
        let rates = Rates {
            learning_rate: learning_rate / (1.0 - beta1.powi(steps)),
            correction: (1.0 - beta2.powi(steps)).sqrt().recip(),
            decay: 1.0 - learning_rate * self.weight_decay,
            betas: self.betas,
            epsilon: self.epsilon,
            clip,
        };
        let flat = |tensor: &Tensor| tensor.f_view([-1]);
        let trained = moments.master.as_ref().unwrap_or(parameter);
        let all = [
            flat(trained)?,
            flat(&gradient.f_contiguous()?)?,
            flat(&moments.first)?,
            flat(&moments.second)?,
        ];
        let (count, block) = (all[0].size()[0], block(parameter.device()));
        for start in (0..count).step_by(block as usize) {
            let part = |tensor: &Tensor| tensor.f_narrow(0, start, block.min(count - start));
            let [trained, gradient, first, second] = &all;
            rates.apply([part(trained)?, part(gradient)?, part(first)?, part(second)?])?;
        }
        if let Some(master) = &moments.master {
            parameter.f_copy_(master)?;
        }
        Ok(())
    }

    /// Returns the current state; tensors are shared.
    pub(super) fn state(&self) -> AdamWState {
        let mut tensors = BTreeMap::new();
        for (name, moments) in &self.moments {
            tensors.insert(format!("first.{name}"), moments.first.shallow_clone());
            tensors.insert(format!("second.{name}"), moments.second.shallow_clone());
            if let Some(master) = &moments.master {
                tensors.insert(format!("master.{name}"), master.shallow_clone());
            }
        }
        AdamWState { steps: self.steps, tensors }
    }

    /// Restores a state on `device`.
    pub(super) fn restore(&mut self, state: AdamWState, device: Device) -> Result<()> {
        self.steps = state.steps;
        for (name, parameter) in &self.parameters {
            let get = |part: &str| state.tensors.get(&format!("{part}.{name}"));
            let (Some(first), Some(second)) = (get("first"), get("second")) else { continue };
            let mut moments = Moments::new(parameter)?;
            moments.first = first.f_to_device(device)?;
            moments.second = second.f_to_device(device)?;
            if let Some(master) = get("master") {
                moments.master = Some(master.f_to_device(device)?);
            }
            self.moments.insert(name.clone(), moments);
        }
        Ok(())
    }
}

/// Returns the number of elements updated together: few enough to stay in a CPU's cache between operations, enough
/// to occupy a GPU.
fn block(device: Device) -> i64 {
    match device {
        Device::Cpu => 1 << 18,
        _ => 1 << 26,
    }
}

/// Factors of one step.
struct Rates {
    /// Learning rate divided by the first moment's bias correction.
    learning_rate: f64,
    /// Bias correction of the second moment's root.
    correction: f64,
    /// Factor of a weight under decoupled weight decay.
    decay: f64,
    betas: [f64; 2],
    epsilon: f64,
    clip: f64,
}

impl Rates {
    /// Updates flat weights and moments in place.
    fn apply(&self, [mut weights, gradient, mut first, mut second]: [Tensor; 4]) -> Result<()> {
        let [beta1, beta2] = self.betas;
        let gradient = gradient.f_to_kind(Kind::Float)?.f_mul_scalar(self.clip)?;
        let _ = first.f_lerp_(&gradient, 1.0 - beta1)?;
        let root = gradient.f_mul_scalar((1.0 - beta2).sqrt())?;
        let _ = second.f_mul_scalar_(beta2)?.f_addcmul_(&root, &root)?;
        if self.learning_rate == 0.0 {
            return Ok(());
        }
        // weights - rate first / (correction sqrt(second) + epsilon), its factors gathered in the divisor.
        let by_rate = -self.learning_rate.recip();
        let mut divisor = second.f_sqrt()?;
        let _ = divisor.f_mul_scalar_(self.correction * by_rate)?.f_add_scalar_(self.epsilon * by_rate)?;
        if self.decay != 1.0 {
            let _ = weights.f_mul_scalar_(self.decay)?;
        }
        let _ = weights.f_addcdiv_(&first, &divisor)?;
        Ok(())
    }
}

impl Moments {
    fn new(parameter: &Tensor) -> Result<Self> {
        let zeros = || parameter.f_detach()?.f_to_kind(Kind::Float)?.f_zeros_like();
        let master = match parameter.kind() {
            Kind::Float => None,
            // A conversion of type copies.
            _ => Some(parameter.f_detach()?.f_to_kind(Kind::Float)?),
        };
        Ok(Self { first: zeros()?, second: zeros()?, master })
    }
}

/// Serialisable state of the optimiser.
pub(crate) struct AdamWState {
    steps: i64,
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Serialize, Deserialize)]
struct Steps {
    steps: i64,
}

impl AdamWState {
    /// Writes `optimizer.safetensors` and `optimizer.json`.
    pub(super) fn save(&self, dir: &Path, manifest: &mut Manifest) -> Result<()> {
        let name = "optimizer.safetensors";
        manifest.record(name, write_tensors(&dir.join(name), &self.tensors)?);
        let path = dir.join("optimizer.json");
        let text = format!("{{\"steps\": {}}}\n", self.steps);
        std::fs::write(&path, text).map_err(TorchError::io("write", &path))
    }

    /// Reads a state.
    ///
    /// # Errors
    /// A file that is missing or damaged, or shapes that are not those of `optimizer`'s parameters.
    pub(super) fn read(dir: &Path, optimizer: &AdamW) -> Result<Self> {
        let path = dir.join("optimizer.json");
        let text = std::fs::read_to_string(&path).map_err(TorchError::io("read", &path))?;
        let Steps { steps } = serde_json::from_str(&text)
            .map_err(|error| TorchError::checkpoint(&path, error.to_string()))?;
        let path = dir.join("optimizer.safetensors");
        let tensors = read_tensors(&path)?;
        for (name, parameter) in &optimizer.parameters {
            for part in ["first", "second"] {
                let state = tensors.get(&format!("{part}.{name}"));
                if state.is_some_and(|state| state.size() != parameter.size()) {
                    return Err(TorchError::checkpoint(path, format!("{part}.{name} has another shape")));
                }
            }
        }
        Ok(Self { steps, tensors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A warm-up begins with a step of rate zero, whose gradient `torch.optim.AdamW` remembers as any other.
    #[test]
    fn a_step_of_rate_zero_counts_in_the_moments() {
        let weight = Tensor::ones([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let mut adamw = AdamW::new(vec![("w".to_owned(), weight.shallow_clone())], [0.9, 0.999], 1e-8, 0.1);
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
            let mut adamw = AdamW::new(parameters, [0.9, 0.999], 1e-8, 0.0);
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
            let mut adamw =
                AdamW::new(vec![("w".to_owned(), weight.shallow_clone())], [0.9, 0.999], 1e-8, 0.0);
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
        let nearest =
            f64::try_from(Tensor::from(exact as f32).to_kind(Kind::BFloat16).to_kind(Kind::Double));
        assert_eq!(rounded, nearest.unwrap());
        let moments = &adamw.moments["w"];
        let master = moments.master.as_ref().unwrap();
        assert_eq!([master.kind(), moments.first.kind(), moments.second.kind()], [Kind::Float; 3]);
        assert!((f64::try_from(master.get(0)).unwrap() - exact).abs() < 1e-6);
    }
}
