//! Sparse experts (arXiv 1701.06538) as `Qwen3VLMoeTextSparseMoeBlock` of transformers 5 computes them: a softmax over
//! the experts in float32, of which each token's largest are normalised to a sum of 1, and as many SwiGLU layers.
//!
//! There is no auxiliary loss that balances the experts' load; `docs/families.md` says why.

use tch::{Device, Kind, Tensor};

use super::activation::Activation;
use super::experts_config::{ExpertsConfig, Orientation};
use super::product;
use super::weights::Weights;
use crate::error::Result;

/// Experts of a layer with their router.
pub(crate) struct Experts {
    /// `[experts, hidden]`.
    router: Tensor,
    /// Gate and up projections side by side, `[experts, 2 * inner, hidden]`, or as the file has them.
    gate_up: Tensor,
    /// `[experts, hidden, inner]`, or as the file has them.
    down: Tensor,
    orientation: Orientation,
    activation: Activation,
    per_token: i64,
    inner: i64,
}

/// Experts of each token: weights and indices `[tokens, experts per token]`.
struct Routes {
    weights: Tensor,
    experts: Tensor,
}

impl Experts {
    /// Takes the tensors of a layer's experts by their names under `prefix`.
    pub(super) fn new(
        weights: &Weights,
        prefix: &str,
        config: &ExpertsConfig,
        activation: Activation,
    ) -> Result<Self> {
        let get = |name: &str| weights.get(&format!("{prefix}.{name}"));
        let (router, gate_up, down) =
            (get("gate.weight")?, get("experts.gate_up_proj")?, get("experts.down_proj")?);
        let hidden = router.size()[1];
        let orientation = config.orientation(hidden, [&gate_up.size(), &down.size()]);
        let (per_token, inner) = (config.per_token, config.inner);
        Ok(Self { router, gate_up, down, orientation, activation, per_token, inner })
    }

    /// Applies the experts to `[.., hidden]`, the tokens of an expert in one product.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let shape = x.size();
        let tokens = x.f_reshape([-1, self.hidden()])?;
        let Routes { weights, experts } = self.route(&tokens)?;
        let (sorted, order) = experts.f_flatten(0, 1)?.f_sort_stable(true, 0, false)?;
        let copies = tokens.f_unsqueeze(1)?.f_expand([-1, self.per_token, -1], false)?;
        let rows = copies.f_reshape([-1, self.hidden()])?.f_index_select(0, &order)?;
        let ends = self.ends(&sorted)?;
        let y = match self.multiplies_grouped() {
            true => self.grouped(&rows, &ends)?,
            false => self.one_by_one(&rows, &ends)?,
        };
        let y = y.f_mul(&weights.f_flatten(0, 1)?.f_index_select(0, &order)?.f_unsqueeze(1)?)?;
        let y = y.f_index_select(0, &order.f_argsort(0, false)?)?;
        let y = y.f_view([-1, self.per_token, self.hidden()])?;
        Ok(y.f_sum_dim_intlist(1, false, None::<Kind>)?.f_reshape(shape.as_slice())?)
    }

    /// Applies the experts to `[rows, .., hidden]` so that no row's bits depend on the others: each expert that is needed is
    /// applied to all rows, and the products have one shape whatever the routes.
    pub(crate) fn forward_rows(&self, x: &Tensor) -> Result<Tensor> {
        let shape = x.size();
        let tokens = x.f_reshape([-1, self.hidden()])?;
        let Routes { weights, experts } = self.route(&tokens)?;
        let chosen = Vec::<i64>::try_from(&experts.f_flatten(0, 1)?.f_to_device(Device::Cpu)?)?;
        let mut slots: Vec<usize> = (0..chosen.len()).collect();
        slots.sort_by_key(|&slot| chosen[slot]);
        let (weights, mut out) = (weights.f_flatten(0, 1)?, tokens.f_zeros_like()?);
        for slots in slots.chunk_by(|&a, &b| chosen[a] == chosen[b]) {
            let expert = chosen[slots[0]];
            let y =
                self.expert(&tokens, &self.gate_up.f_select(0, expert)?, &self.down.f_select(0, expert)?)?;
            let index = |of: &dyn Fn(i64) -> i64| -> Result<Tensor> {
                let all: Vec<i64> = slots.iter().map(|&slot| of(slot as i64)).collect();
                Ok(Tensor::f_from_slice(&all)?.f_to_device(x.device())?)
            };
            let (rows, slots) = (index(&|slot| slot / self.per_token)?, index(&|slot| slot)?);
            let part =
                y.f_index_select(0, &rows)?.f_mul(&weights.f_index_select(0, &slots)?.f_unsqueeze(1)?)?;
            out = out.f_index_add(0, &rows, &part)?;
        }
        Ok(out.f_reshape(shape.as_slice())?)
    }

    fn hidden(&self) -> i64 {
        self.router.size()[1]
    }

    /// Chooses the experts of `[tokens, hidden]`.
    fn route(&self, tokens: &Tensor) -> Result<Routes> {
        let logits = product::linear(tokens, &self.router, None)?;
        let (weights, experts) =
            logits.f_softmax(-1, Kind::Float)?.f_topk(self.per_token, -1, true, true)?;
        let sum = weights.f_sum_dim_intlist(-1, true, None::<Kind>)?;
        Ok(Routes { weights: weights.f_div(&sum)?.f_to_kind(tokens.kind())?, experts })
    }

    /// Returns the row behind each expert's last, of rows whose experts are sorted, `[experts]`.
    fn ends(&self, sorted: &Tensor) -> Result<Tensor> {
        let experts = Tensor::f_arange(self.router.size()[0], (sorted.kind(), sorted.device()))?;
        Ok(experts.f_searchsorted(sorted, true, true, "right", None::<Tensor>)?)
    }

    /// Returns whether the device has a product of all experts at once, whose operands begin at multiples of 16 bytes.
    fn multiplies_grouped(&self) -> bool {
        let aligned = |width: i64| width * self.gate_up.kind().elt_size_in_bytes() as i64 % 16 == 0;
        self.gate_up.device().is_cuda()
            && self.gate_up.kind() == Kind::BFloat16
            && aligned(self.inner)
            && aligned(self.hidden())
    }

    /// Applies each expert to its rows in two products for all experts; the host does not wait for the routes.
    fn grouped(&self, rows: &Tensor, ends: &Tensor) -> Result<Tensor> {
        let by = |x: &Tensor, weight: &Tensor| -> Result<Tensor> {
            let weight = match self.orientation {
                Orientation::OutputFirst => weight.f_transpose(1, 2)?,
                Orientation::InputFirst => weight.shallow_clone(),
            };
            Ok(x.f_internal_grouped_mm(&weight, Some(ends), None, None)?)
        };
        by(&self.gated(&by(rows, &self.gate_up)?)?, &self.down)
    }

    /// Applies each expert to its rows in two products for each expert.
    fn one_by_one(&self, rows: &Tensor, ends: &Tensor) -> Result<Tensor> {
        let ends = Vec::<i32>::try_from(&ends.f_to_device(Device::Cpu)?)?;
        // One node of the graph for all experts: the gradients of single ones are not summed up in full.
        let (gate_up, down) = (self.gate_up.f_unbind(0)?, self.down.f_unbind(0)?);
        let (mut parts, mut start) = (Vec::new(), 0);
        for (expert, end) in ends.into_iter().map(i64::from).enumerate() {
            if end > start {
                parts.push(self.expert(
                    &rows.f_narrow(0, start, end - start)?,
                    &gate_up[expert],
                    &down[expert],
                )?);
            }
            start = end;
        }
        Ok(Tensor::f_cat(&parts, 0)?)
    }

    /// Applies one expert.
    fn expert(&self, x: &Tensor, gate_up: &Tensor, down: &Tensor) -> Result<Tensor> {
        let by = |x: &Tensor, weight: &Tensor| match self.orientation {
            Orientation::OutputFirst => product::linear(x, weight, None),
            Orientation::InputFirst => product::linear(x, &weight.f_transpose(0, 1)?, None),
        };
        by(&self.gated(&by(x, gate_up)?)?, down)
    }

    fn gated(&self, both: &Tensor) -> Result<Tensor> {
        let gate = self.activation.forward(&both.f_narrow(1, 0, self.inner)?)?;
        Ok(gate.f_mul(&both.f_narrow(1, self.inner, self.inner)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experts(orientation: Orientation) -> Experts {
        tch::manual_seed(7);
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.2;
        let (gate_up, down) = (random(&[5, 48, 32]), random(&[5, 32, 24]));
        let turned = |t: &Tensor| match orientation {
            Orientation::OutputFirst => t.shallow_clone(),
            Orientation::InputFirst => t.transpose(1, 2).contiguous(),
        };
        Experts {
            router: random(&[5, 32]).set_requires_grad(true),
            gate_up: turned(&gate_up).set_requires_grad(true),
            down: turned(&down).set_requires_grad(true),
            orientation,
            activation: Activation::Silu,
            per_token: 2,
            inner: 24,
        }
    }

    fn far(a: &Tensor, b: &Tensor) -> f64 {
        f64::try_from((a - b).abs().max()).unwrap()
    }

    /// The sum over a token's experts, written down for one token after the other.
    fn plain(experts: &Experts, x: &Tensor) -> Tensor {
        let probabilities = x.matmul(&experts.router.transpose(0, 1)).softmax(-1, Kind::Float);
        let token = |index: i64| {
            let mut order: Vec<(f64, i64)> =
                (0..5).map(|expert| (probabilities.double_value(&[index, expert]), expert)).collect();
            order.sort_by(|a, b| b.0.total_cmp(&a.0));
            let sum = order[0].0 + order[1].0;
            let part = |&(probability, expert): &(f64, i64)| {
                let both = x.get(index).unsqueeze(0).matmul(&experts.gate_up.get(expert).transpose(0, 1));
                let inner = both.narrow(1, 0, 24).silu() * both.narrow(1, 24, 24);
                inner.matmul(&experts.down.get(expert).transpose(0, 1)) * (probability / sum)
            };
            part(&order[0]) + part(&order[1])
        };
        Tensor::cat(&(0..x.size()[0]).map(token).collect::<Vec<_>>(), 0)
    }

    #[test]
    fn tokens_go_through_their_experts() {
        let experts = experts(Orientation::OutputFirst);
        let x = Tensor::randn([11, 32], (Kind::Float, Device::Cpu));
        let wanted = plain(&experts, &x);
        assert!(far(&experts.forward(&x.view([1, 11, 32])).unwrap().view([11, 32]), &wanted) < 1e-5);
        assert!(far(&experts.forward_rows(&x).unwrap(), &wanted) < 1e-5);
    }

    /// The product of all experts at once, which GPUs take, and its gradients are those of single products.
    #[test]
    fn grouped_products_are_those_of_single_experts() {
        for orientation in [Orientation::OutputFirst, Orientation::InputFirst] {
            let experts = experts(orientation);
            let rows = Tensor::randn([9, 32], (Kind::Float, Device::Cpu)).set_requires_grad(true);
            // Experts 1 and 4 have no rows.
            let ends = Tensor::from_slice(&[2_i32, 2, 7, 9, 9]);
            let by = Tensor::randn([9, 32], (Kind::Float, Device::Cpu));
            let weights = [&rows, &experts.gate_up, &experts.down];
            let gradients =
                |y: &Tensor| Tensor::run_backward(&[(y * &by).sum(Kind::Float)], &weights, false, false);
            let (all, single) =
                (experts.grouped(&rows, &ends).unwrap(), experts.one_by_one(&rows, &ends).unwrap());
            assert!(far(&all, &single) < 1e-5);
            for (all, single) in gradients(&all).iter().zip(gradients(&single)) {
                assert!(far(all, &single) < 1e-5);
            }
        }
    }

    #[test]
    fn both_orientations_are_one_layer() {
        let x = Tensor::randn([7, 32], (Kind::Float, Device::Cpu));
        let [out, input] = [Orientation::OutputFirst, Orientation::InputFirst].map(experts);
        for apply in [Experts::forward, Experts::forward_rows] {
            assert!(far(&apply(&out, &x).unwrap(), &apply(&input, &x).unwrap()) < 1e-5);
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_others() {
        let experts = experts(Orientation::OutputFirst);
        let (x, other) = (
            Tensor::randn([8, 32], (Kind::Float, Device::Cpu)),
            Tensor::randn([8, 32], (Kind::Float, Device::Cpu)),
        );
        let mixed = Tensor::cat(&[x.narrow(0, 0, 3), other.narrow(0, 3, 5)], 0);
        let first = |x: &Tensor| experts.forward_rows(x).unwrap().narrow(0, 0, 3);
        assert_eq!(first(&x), first(&mixed));
    }
}
