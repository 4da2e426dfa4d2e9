//! The sampler `sglang`: what SGLang adds to the OpenAI API (0.5.23).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use isr_api::{BuildContext, Cause, Component, ComponentError, Frames, GenerateRequest, Sampler};
use isr_chat::png;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::avi;
use crate::config::{Media, ServerSettings};
use crate::dialect::{Dialect, Loading, Refusal, Weights};
use crate::request;
use crate::sampler::ServerSampler;

/// SGLang server that samples in the policy's place, with the weights of each iteration. It reads them from a folder: a LoRA adapter
/// by `/load_lora_adapter`, full weights by `/update_weights_from_disk`. A server of one's own needs
/// `SGLANG_RETURN_ORIGINAL_LOGPROB=1`, `SGLANG_VLM_CACHE_SIZE_MB=0` for full weights, `--enable-lora` for an adapter, and
/// `--mm-process-config` for videos.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SglangConfig(pub ServerSettings);

impl Component for SglangConfig {
    type Built = Arc<dyn Sampler>;

    fn validate(&self) -> Result<(), String> {
        self.0.check()
    }

    fn build(&self, _: &BuildContext) -> Result<Arc<dyn Sampler>, Cause> {
        Ok(Arc::new(ServerSampler::new(self.0.clone(), &Sglang)?))
    }
}

isr_config::register!(Sampler "sglang" => SglangConfig, example = r#"
command = ["python", "-m", "sglang.launch_server", "--model-path", "{checkpoint}", "--port", "8000", "--mm-process-config",
           '{"video": {"fps": 1000, "max_frames": 1024, "min_pixels": 784, "max_pixels": 100000000, "total_pixels": 100000000000}}']
env = { CUDA_VISIBLE_DEVICES = "1" }
"#);

/// Seconds by which a frame may be beside its place among evenly spaced ones: the last digit of a time in words.
const TENTH: f64 = 0.1;

struct Sglang;

impl Dialect for Sglang {
    fn name(&self) -> &'static str {
        "sglang"
    }

    fn version(&self) -> &'static str {
        "SGLang 0.5.23"
    }

    /// Log-probs at temperature 1, and no features of videos by other weights: the cache of them outlives an update.
    fn variables(&self) -> &'static [(&'static str, &'static str)] {
        &[("SGLANG_RETURN_ORIGINAL_LOGPROB", "1"), ("SGLANG_VLM_CACHE_SIZE_MB", "0")]
    }

    fn version_path(&self) -> &'static str {
        "/model_info"
    }

    fn unload_path(&self) -> &'static str {
        "/unload_lora_adapter"
    }

    fn served(&self) -> &'static [&'static str] {
        &["/model_info", "/server_info"]
    }

    fn loading(&self, weights: &Weights) -> Loading {
        let path = weights.checkpoint.display().to_string();
        if weights.is_adapter {
            let body = json!({ "lora_name": weights.name, "lora_path": path });
            return Loading {
                calls: vec![("/load_lora_adapter", body)],
                remedy: "start the server with --enable-lora, --max-lora-rank and --lora-target-modules, on a file \
                         system on which it finds the adapter (weights_dir)",
            };
        }
        // Requests of a connection that broke may still run, with other weights; an update waits for them.
        let body = json!({
            "model_path": path, "weight_version": weights.name, "flush_cache": true, "abort_all_requests": true,
        });
        Loading {
            calls: vec![("/update_weights_from_disk", body)],
            remedy: "the server must be SGLang (0.5.23), with a model of the policy's architecture, on a file system \
                     on which it finds the checkpoint (weights_dir)",
        }
    }

    fn caveat(&self, weights: &Weights, media: Media) -> Option<&'static str> {
        let is_wrong = media == Media::Video && model_type(weights) == "qwen2_5_vl";
        is_wrong.then_some(
            "SGLang takes videos of Qwen2.5-VL to have 24 frames a second, whatever their times: positions are not the \
             policy's (docs/samplers.md)",
        )
    }

    fn body(
        &self,
        request: &GenerateRequest,
        index: usize,
        weights: &Weights,
        media: Media,
    ) -> Result<Value, ComponentError> {
        let mut body = request::body(request, index, media, |frames| {
            Ok(request::video_part(&video_url(frames, weights)?))
        })?;
        // An unknown adapter behind a model's name is refused, an unknown model is not.
        body.insert("model".to_owned(), json!(weights.name));
        if weights.is_adapter {
            body.insert("lora_path".to_owned(), json!(weights.name));
        }
        if request.sampling.top_k == 0 {
            body.insert("top_k".to_owned(), json!(-1));
        }
        body.insert("separate_reasoning".to_owned(), json!(false));
        Ok(Value::Object(body))
    }

    fn refusal(&self, status: u16, text: &str, weights: &Weights) -> Option<Refusal> {
        if weights.is_adapter && status == 400 && text.contains(&weights.name) {
            return Some(Refusal::Lost);
        }
        let remedy = "install torchcodec and an FFmpeg that reads PNG there, or set media = \"images\"";
        text.contains("Could not decode video")
            .then(|| Refusal::Setting(format!("it decodes no AVI of PNG pictures; {remedy}")))
    }
}

fn model_type(weights: &Weights) -> &str {
    weights.served.first().and_then(|model| model["model_type"].as_str()).unwrap_or_default()
}

/// Frames as a lossless video file at a constant rate, whose number is even: Qwen's processors repeat the last one, too.
fn video_url(frames: &Frames, weights: &Weights) -> Result<String, ComponentError> {
    let step = step(frames);
    // Of these models the prompt has the times in words.
    if model_type(weights).starts_with("qwen3_vl") {
        evenly_spaced(frames, step).map_err(ComponentError::failed)?;
    }
    let pictures = (0..frames.len()).map(|index| png(frames, index));
    let mut pictures = pictures.collect::<Result<Vec<_>, _>>().map_err(ComponentError::failed)?;
    if let (Some(last), 1) = (pictures.last().cloned(), pictures.len() % 2) {
        pictures.push(last);
    }
    all_are_taken(pictures.len(), step, weights).map_err(ComponentError::failed)?;
    let interval = (step * 1e6).round().clamp(1.0, f64::from(u32::MAX)) as u32;
    let file = avi::file(frames.width, frames.height, interval, &pictures).map_err(|_| {
        ComponentError::failed(
            "frames of more than 4 GiB are no video; sample fewer, or set media = \"images\"",
        )
    })?;
    Ok(format!("data:video/x-msvideo;base64,{}", STANDARD.encode(file)))
}

/// Mean distance of frames in seconds; a hundredth for frames of one time, which is 0 in words.
fn step(frames: &Frames) -> f64 {
    match frames.timestamps.as_slice() {
        [first, .., last] if last > first => (last - first) / (frames.len() - 1) as f64,
        _ => 1e-2,
    }
}

/// Refuses times that a constant rate does not tell.
fn evenly_spaced(frames: &Frames, step: f64) -> Result<(), String> {
    let remedy = "sample an even number of frames, evenly spaced from the start of the clip, or set sampler.media = \
                  \"images\"";
    let count = frames.len();
    if count > 1 && count % 2 == 1 {
        return Err(format!("SGLang is told no times of {count} frames, an odd number; {remedy}"));
    }
    let apart = |(index, time): (usize, &f64)| (time - index as f64 * step).abs() > TENTH;
    match frames.timestamps.iter().enumerate().find(|it| apart(*it)) {
        None => Ok(()),
        Some((index, time)) => Err(format!(
            "SGLang is told times of evenly spaced frames, and frame {index} is at {time:.2} s, not at {:.2} s; {remedy}",
            index as f64 * step
        )),
    }
}

/// Refuses a video of which a server of a Qwen model would sample some frames (`smart_nframes` in SGLang's `qwen_vl.py`). A
/// server that does not say how it was started is believed.
fn all_are_taken(count: usize, step: f64, weights: &Weights) -> Result<(), String> {
    let config = weights.served.get(1).and_then(|server| server.get("mm_process_config"));
    let Some(config) = config.filter(|_| model_type(weights).starts_with("qwen")) else { return Ok(()) };
    let number = |key: &str, default: f64| config["video"][key].as_f64().unwrap_or(default);
    let by_rate = (count as f64 * step * number("fps", 2.0)).max(number("min_frames", 4.0));
    let taken = number("nframes", by_rate).min(number("max_frames", 768.0));
    if taken >= count as f64 {
        return Ok(());
    }
    let frames = taken.max(0.0) as usize / 2 * 2;
    Err(format!(
        "the server would take {frames} of the {count} frames of a video; start it with the --mm-process-config of the \
         example of `isr plugins describe sampler sglang`, or set sampler.media = \"images\""
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::tests::weights;
    use crate::request::tests::request;

    /// Weights of a model on a server with this config of videos.
    fn model(name: &str, video: &Value) -> Weights {
        let server = json!({ "mm_process_config": { "video": video } });
        weights(vec![json!({ "model_type": name }), server], false)
    }

    fn url(times: &[f64]) -> Vec<u8> {
        let weights = model("qwen2_vl", &json!({ "fps": 1000 }));
        let body = Sglang.body(&request(times), 0, &weights, Media::Video).unwrap();
        let content = &body["messages"][1]["content"][0]["video_url"]["url"];
        let url = content.as_str().unwrap();
        STANDARD.decode(url.strip_prefix("data:video/x-msvideo;base64,").unwrap()).unwrap()
    }

    #[test]
    fn a_video_has_an_even_number_of_frames_at_their_distance() {
        for (times, interval, count) in [
            (&[0.0, 0.5][..], 500_000, 2),
            (&[0.0, 0.4, 0.8], 400_000, 4),
            (&[3.0], 10_000, 2),
            (&[1.0, 1.0], 10_000, 2),
            // Times that are no part of the prompt need not be even.
            (&[0.0, 0.1, 0.1, 3.0], 1_000_000, 4),
        ] {
            let file = url(times);
            let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
            assert_eq!((number(32), number(48)), (interval, count), "{times:?}");
        }
    }

    #[test]
    fn an_adapter_is_asked_for_and_missed_by_its_name() {
        let adapter = weights(Vec::new(), true);
        let body = Sglang.body(&request(&[0.0, 0.5]), 1, &adapter, Media::Images).unwrap();
        assert_eq!(
            (&body["lora_path"], &body["model"], &body["top_k"]),
            (&json!("isr-1"), &json!("isr-1"), &json!(5))
        );
        let is_lost =
            |weights: &Weights, text| matches!(Sglang.refusal(400, text, weights), Some(Refusal::Lost));
        let full = weights(Vec::new(), false);
        for text in [
            "Got LoRA adapter that has never been loaded: isr-1",
            "LoRA adapter 'isr-1' was requested, but LoRA is not enabled.",
        ] {
            assert!(is_lost(&adapter, text) && !is_lost(&full, text));
        }
        assert!(Sglang.refusal(400, "the prompt is too long", &adapter).is_none());
    }

    #[test]
    fn positions_that_are_not_the_policys_are_warned_of() {
        let warns = |name, media| Sglang.caveat(&model(name, &json!({})), media).is_some();
        assert!(warns("qwen2_5_vl", Media::Video));
        assert!(!warns("qwen2_5_vl", Media::Images) && !warns("qwen3_vl", Media::Video));
    }

    #[test]
    fn a_server_that_would_leave_frames_out_is_refused() {
        let taken = |name, video: Value, count, step| all_are_taken(count, step, &model(name, &video));
        let error = taken("qwen3_vl", json!({}), 6, 0.4).unwrap_err();
        assert!(error.starts_with("the server would take 4 of the 6 frames"), "{error}");
        assert!(taken("qwen3_vl", json!({ "fps": 1000 }), 6, 0.4).is_ok());
        assert!(taken("qwen3_vl", json!({ "fps": 1000 }), 770, 0.4).is_err());
        assert!(taken("qwen3_vl", json!({ "fps": 1000, "max_frames": 1024 }), 770, 0.4).is_ok());
        assert!(taken("qwen2_vl", json!({ "nframes": 8 }), 16, 10.0).is_err());
        assert!(taken("qwen2_vl", json!({}), 16, 0.5).is_ok(), "the server's rate is 2");
        assert!(taken("internvl_chat", json!({}), 6, 0.4).is_ok());
        let silent = weights(vec![json!({ "model_type": "qwen3_vl" }), Value::Null], false);
        assert!(all_are_taken(6, 0.4, &silent).is_ok());
    }
}
