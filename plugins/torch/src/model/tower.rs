//! CLIP's vision transformer (arXiv 2103.00020), as `CLIPVisionModel` in transformers computes it.

use tch::Tensor;

use super::config::VisionConfig;
use super::weights::Weights;
use crate::error::Result;

struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl Norm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let shape = self.weight.size();
        Ok(x.f_layer_norm(shape.as_slice(), Some(&self.weight), Some(&self.bias), self.eps, true)?)
    }
}

struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, Some(&self.bias))?)
    }
}

struct Layer {
    norm1: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm2: Norm,
    fc1: Linear,
    fc2: Linear,
}

/// A tower that runs as far as the hidden state that features are taken from.
pub(crate) struct VisionTower {
    class_embedding: Tensor,
    patch_embedding: Tensor,
    position_embedding: Tensor,
    pre_norm: Norm,
    layers: Vec<Layer>,
    heads: i64,
    patch_size: i64,
    quick_gelu: bool,
    keeps_class_token: bool,
}

impl VisionTower {
    /// Takes the tower's tensors from `weights`, under `prefix`.
    pub(crate) fn new(
        weights: &Weights,
        prefix: &str,
        config: &VisionConfig,
        feature_layer: i64,
        keeps_class_token: bool,
    ) -> Result<Self> {
        let get = |name: &str| weights.get(&format!("{prefix}.{name}"));
        let norm = |name: &str| -> Result<Norm> {
            let (weight, bias) = (get(&format!("{name}.weight"))?, get(&format!("{name}.bias"))?);
            Ok(Norm { weight, bias, eps: config.layer_norm_eps })
        };
        let linear = |name: &str| -> Result<Linear> {
            Ok(Linear { weight: get(&format!("{name}.weight"))?, bias: get(&format!("{name}.bias"))? })
        };
        let layer = |index: i64| -> Result<Layer> {
            let at = |name: &str| format!("encoder.layers.{index}.{name}");
            Ok(Layer {
                norm1: norm(&at("layer_norm1"))?,
                query: linear(&at("self_attn.q_proj"))?,
                key: linear(&at("self_attn.k_proj"))?,
                value: linear(&at("self_attn.v_proj"))?,
                out: linear(&at("self_attn.out_proj"))?,
                norm2: norm(&at("layer_norm2"))?,
                fc1: linear(&at("mlp.fc1"))?,
                fc2: linear(&at("mlp.fc2"))?,
            })
        };
        Ok(Self {
            class_embedding: get("embeddings.class_embedding")?,
            patch_embedding: get("embeddings.patch_embedding.weight")?,
            position_embedding: get("embeddings.position_embedding.weight")?,
            pre_norm: norm("pre_layrnorm")?,
            layers: (0..feature_layer).map(layer).collect::<Result<_>>()?,
            heads: config.num_attention_heads,
            patch_size: config.patch_size,
            quick_gelu: config.hidden_act == "quick_gelu",
            keeps_class_token,
        })
    }

    /// Features `[frames, tokens, dim]` of pixels `[frames, 3, size, size]`.
    pub(crate) fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let mut x = self.pre_norm.forward(&self.embed(pixels)?)?;
        for layer in &self.layers {
            x = self.block(layer, &x)?;
        }
        if self.keeps_class_token {
            return Ok(x);
        }
        let tokens = x.size()[1];
        Ok(x.f_narrow(1, 1, tokens - 1)?)
    }

    fn embed(&self, pixels: &Tensor) -> Result<Tensor> {
        let stride = [self.patch_size, self.patch_size];
        let patches = pixels.f_conv2d(&self.patch_embedding, None::<&Tensor>, stride, [0, 0], [1, 1], 1)?;
        let patches = patches.f_flatten(2, 3)?.f_transpose(1, 2)?;
        let frames = pixels.size()[0];
        let width = self.class_embedding.size()[0];
        let class = self.class_embedding.f_view([1, 1, width])?.f_expand([frames, 1, width], false)?;
        Ok(Tensor::f_cat(&[&class, &patches], 1)?.f_add(&self.position_embedding)?)
    }

    fn block(&self, layer: &Layer, x: &Tensor) -> Result<Tensor> {
        let normed = layer.norm1.forward(x)?;
        let (frames, tokens, width) = x.size3()?;
        let heads = |t: Tensor| -> Result<Tensor> {
            Ok(t.f_view([frames, tokens, self.heads, width / self.heads])?.f_transpose(1, 2)?)
        };
        let query = heads(layer.query.forward(&normed)?)?;
        let key = heads(layer.key.forward(&normed)?)?;
        let value = heads(layer.value.forward(&normed)?)?;
        let attended = Tensor::f_scaled_dot_product_attention(
            &query,
            &key,
            &value,
            None::<&Tensor>,
            0.0,
            false,
            None,
            false,
        )?;
        let attended = attended.f_transpose(1, 2)?.f_reshape([frames, tokens, width])?;
        let x = x.f_add(&layer.out.forward(&attended)?)?;
        let hidden = layer.fc1.forward(&layer.norm2.forward(&x)?)?;
        Ok(x.f_add(&layer.fc2.forward(&self.activate(&hidden)?)?)?)
    }

    fn activate(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self.quick_gelu {
            true => x.f_mul(&x.f_mul_scalar(1.702)?.f_sigmoid()?)?,
            false => x.f_gelu("none")?,
        })
    }
}
