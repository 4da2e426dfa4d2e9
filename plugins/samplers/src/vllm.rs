//! The sampler `vllm`: what vLLM adds to the OpenAI API (0.32).

use std::sync::Arc;

use isr_api::{BuildContext, Cause, Component, ComponentError, Frames, GenerateRequest, Sampler};
use isr_chat::png_base64;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::{Media, ServerSettings};
use crate::dialect::{Dialect, Loading, Refusal, Weights};
use crate::request;
use crate::sampler::ServerSampler;

/// vLLM server that samples in the policy's place, with the weights of each iteration. It reads them from a folder: a LoRA adapter
/// by `/v1/load_lora_adapter`, full weights by `reload_weights`. A server of one's own needs `VLLM_SERVER_DEV_MODE=1` for full
/// weights, `--enable-lora` and `VLLM_ALLOW_RUNTIME_LORA_UPDATING=1` for an adapter, and `--trust-request-mm-kwargs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct VllmConfig(pub ServerSettings);

impl Component for VllmConfig {
    type Built = Arc<dyn Sampler>;

    fn validate(&self) -> Result<(), String> {
        self.0.check()
    }

    fn build(&self, _: &BuildContext) -> Result<Arc<dyn Sampler>, Cause> {
        Ok(Arc::new(ServerSampler::new(self.0.clone(), &Vllm)?))
    }
}

isr_config::register!(Sampler "vllm" => VllmConfig, example = r#"
command = ["vllm", "serve", "{checkpoint}", "--port", "8000", "--trust-request-mm-kwargs"]
env = { CUDA_VISIBLE_DEVICES = "1" }
"#);

/// Frames a second in which times are told: they are whole numbers of it.
const CLOCK: f64 = 1000.0;

/// Caches of what other weights have computed: of prompts, and of videos in the scheduler, which else takes the worker to have
/// features that it let go when it read the weights.
const CACHES: [&str; 3] = ["/reset_prefix_cache", "/reset_encoder_cache", "/reset_mm_cache"];

struct Vllm;

impl Dialect for Vllm {
    fn name(&self) -> &'static str {
        "vllm"
    }

    fn version(&self) -> &'static str {
        "vLLM 0.10.2"
    }

    fn variables(&self) -> &'static [(&'static str, &'static str)] {
        &[("VLLM_SERVER_DEV_MODE", "1"), ("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "1")]
    }

    fn version_path(&self) -> &'static str {
        "/weight_info"
    }

    fn unload_path(&self) -> &'static str {
        "/v1/unload_lora_adapter"
    }

    fn served(&self) -> &'static [&'static str] {
        &["/v1/models"]
    }

    fn loading(&self, weights: &Weights) -> Loading {
        let path = weights.checkpoint.display().to_string();
        if weights.is_adapter {
            let body = json!({ "lora_name": weights.name, "lora_path": path });
            return Loading {
                calls: vec![("/v1/load_lora_adapter", body)],
                remedy: "start the server with --enable-lora, --max-lora-rank and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, \
                         on a file system on which it finds the adapter (weights_dir)",
            };
        }
        let reload = json!({ "method": "reload_weights", "kwargs": { "weights_path": path } });
        let mut calls = vec![("/collective_rpc", reload)];
        calls.extend(CACHES.map(|cache| (cache, Value::Null)));
        calls.push(("/update_weight_version", json!({ "new_version": weights.name })));
        Loading {
            calls,
            remedy: "start the server with VLLM_SERVER_DEV_MODE=1 (vLLM 0.32), on a file system on which it finds the \
                     checkpoint (weights_dir)",
        }
    }

    fn body(
        &self,
        request: &GenerateRequest,
        index: usize,
        weights: &Weights,
        media: Media,
    ) -> Result<Value, ComponentError> {
        let mut told = None;
        let mut body = request::body(request, index, media, |frames| {
            if told.replace(times(frames)).is_some() {
                let text =
                    "a prompt with two videos, whose times vLLM takes once; set sampler.media = \"images\"";
                return Err(ComponentError::failed(text));
            }
            Ok(request::video_part(&video_url(frames)?))
        })?;
        let served = weights.served.first().and_then(|models| models["data"][0]["id"].as_str());
        let model = if weights.is_adapter { &weights.name } else { served.unwrap_or_default() };
        body.insert("model".to_owned(), json!(model));
        if let Some(times) = told {
            body.insert("media_io_kwargs".to_owned(), json!({ "video": times }));
        }
        Ok(Value::Object(body))
    }

    fn refusal(&self, status: u16, text: &str, _: &Weights) -> Option<Refusal> {
        if status == 404 {
            return Some(Refusal::Lost);
        }
        let flag = ["media_io_kwargs", "mm_processor_kwargs"].into_iter().find(|it| text.contains(*it))?;
        let remedy = "start the server with --trust-request-mm-kwargs, or set media = \"images\"";
        Some(Refusal::Setting(format!("it takes no {flag}; {remedy}")))
    }
}

/// Frames as pictures of PNG behind one another, which vLLM reads as a video.
fn video_url(frames: &Frames) -> Result<String, ComponentError> {
    let pictures = (0..frames.len()).map(|index| png_base64(frames, index));
    let pictures = pictures.collect::<Result<Vec<_>, _>>().map_err(ComponentError::failed)?;
    Ok(format!("data:video/jpeg;base64,{}", pictures.join(",")))
}

/// Times of frames as `media_io_kwargs` has them: places in a clip of [`CLOCK`] frames a second. No frame is left out.
fn times(frames: &Frames) -> Value {
    let place = |seconds: f64| (seconds * CLOCK).round().max(0.0) as u64;
    let places: Vec<u64> = frames.timestamps.iter().map(|&seconds| place(seconds)).collect();
    let behind = places.last().map_or(0, |last| last + 1);
    let total = place(frames.duration).max(behind).max(frames.len() as u64);
    let mut times = Map::new();
    times.insert("num_frames".to_owned(), json!(-1));
    times.insert("fps".to_owned(), json!(CLOCK));
    times.insert("frames_indices".to_owned(), json!(places));
    times.insert("total_num_frames".to_owned(), json!(total));
    times.insert("duration".to_owned(), json!(frames.duration));
    times.insert("do_sample_frames".to_owned(), json!(false));
    Value::Object(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::tests::weights;
    use crate::request::tests::request;

    #[test]
    fn a_video_is_sent_with_its_times() {
        let weights = weights(vec![json!({ "data": [{ "id": "m" }] })], false);
        let body = Vllm.body(&request(&[0.0, 0.5]), 0, &weights, Media::Video).unwrap();
        assert_eq!(body["model"], "m");
        let content = body["messages"][1]["content"].as_array().unwrap();
        let url = content[0]["video_url"]["url"].as_str().unwrap();
        assert!(url.starts_with("data:video/jpeg;base64,iVBOR") && url.split(',').count() == 3, "{url}");
        assert_eq!(content[1]["text"], "what?");
        let times = &body["media_io_kwargs"]["video"];
        assert_eq!(times["frames_indices"], json!([0, 500]));
        assert_eq!((&times["total_num_frames"], &times["fps"]), (&json!(1000), &json!(1000.0)));
        let pictures = Vllm.body(&request(&[0.0, 0.5]), 0, &weights, Media::Images).unwrap();
        assert!(pictures.get("media_io_kwargs").is_none());
    }
}
