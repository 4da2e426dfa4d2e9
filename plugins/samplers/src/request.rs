//! Bodies of chat completions, with what vLLM adds to the OpenAI API (0.32).

use isr_api::{ComponentError, Frames, GenerateRequest, Message, Part, Role, Sampling, Streams};
use isr_chat::{data_urls, png_base64};
use serde_json::{Map, Value, json};

use crate::config::Media;

/// Frames a second in which times are told: they are whole numbers of it.
const CLOCK: f64 = 1000.0;

/// Returns the body of the request for response `index`, whose draws depend on its own seed.
///
/// All parameters are sent, as a server takes those that are missing from the checkpoint's `generation_config.json`.
pub(crate) fn body(
    request: &GenerateRequest,
    index: usize,
    model: &str,
    media: Media,
) -> Result<Value, ComponentError> {
    let mut video = None;
    let messages = request.prompt.messages.iter().map(|message| written(message, media, &mut video));
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    let Sampling { temperature, top_p, top_k, max_new_tokens, stop } = &request.sampling;
    let seed = Streams::new(request.seed).seed(index as u32, "answer", "") >> 1;
    let mut body = json!({
        "model": model, "messages": messages, "max_tokens": max_new_tokens, "seed": seed,
        "temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": 0.0,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
        "stop": stop, "skip_special_tokens": true, "logprobs": true, "return_token_ids": true,
    });
    if let (Some(times), Value::Object(body)) = (video, &mut body) {
        body.insert("media_io_kwargs".to_owned(), json!({ "video": times }));
    }
    Ok(body)
}

/// A message; puts the times of its video into `video`.
fn written(message: &Message, media: Media, video: &mut Option<Value>) -> Result<Value, ComponentError> {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let mut content = Vec::new();
    for part in &message.parts {
        match part {
            Part::Text(text) => content.push(json!({ "type": "text", "text": text })),
            Part::Video(scene) if media == Media::Images => {
                let urls = data_urls(&scene.frames, scene.frames.len()).map_err(ComponentError::failed)?;
                let picture = |url| json!({ "type": "image_url", "image_url": { "url": url } });
                content.extend(urls.into_iter().map(picture));
            }
            Part::Video(scene) => {
                if video.replace(times(&scene.frames)).is_some() {
                    let text = "a prompt with two videos, whose times vLLM takes once; set sampler.media = \"images\"";
                    return Err(ComponentError::failed(text));
                }
                let url = video_url(&scene.frames)?;
                content.push(json!({ "type": "video_url", "video_url": { "url": url } }));
            }
        }
    }
    // Of text alone: templates that take strings get one.
    let is_text = |part: &Value| part["type"] == "text";
    let content = match content.as_slice() {
        [one] if is_text(one) => one["text"].clone(),
        _ => Value::Array(content),
    };
    Ok(json!({ "role": role, "content": content }))
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
    use std::sync::Arc;

    use isr_api::{Prompt, VideoInput};

    use super::*;

    fn request() -> GenerateRequest {
        let frames = Frames::new(2, 1, (0..12).collect(), vec![0.0, 0.5]).unwrap().with_duration(1.0);
        let scene = VideoInput { video: "clip.mp4".into(), frames: Arc::new(frames), features: None };
        let prompt = Prompt::about(&scene, "what?").with_system("Be brief.");
        let sampling = Sampling { temperature: 0.7, top_k: 5, max_new_tokens: 9, ..Sampling::default() };
        GenerateRequest { prompt, sampling, n: 2, seed: 3 }
    }

    #[test]
    fn a_video_is_sent_with_its_times() {
        let body = body(&request(), 0, "m", Media::Video).unwrap();
        assert_eq!(body["messages"][0], json!({ "role": "system", "content": "Be brief." }));
        let content = body["messages"][1]["content"].as_array().unwrap();
        let url = content[0]["video_url"]["url"].as_str().unwrap();
        assert!(url.starts_with("data:video/jpeg;base64,iVBOR") && url.split(',').count() == 3, "{url}");
        assert_eq!(content[1]["text"], "what?");
        let times = &body["media_io_kwargs"]["video"];
        assert_eq!(times["frames_indices"], json!([0, 500]));
        assert_eq!((&times["total_num_frames"], &times["fps"]), (&json!(1000), &json!(1000.0)));
        assert_eq!(
            (&body["top_k"], &body["max_tokens"], &body["temperature"]),
            (&json!(5), &json!(9), &json!(0.7))
        );
    }

    #[test]
    fn frames_may_be_pictures_and_responses_have_seeds_of_their_own() {
        let [one, other] = [0, 1].map(|index| body(&request(), index, "m", Media::Images).unwrap());
        let kinds: Vec<_> =
            one["messages"][1]["content"].as_array().unwrap().iter().map(|it| it["type"].clone()).collect();
        assert_eq!(kinds, ["image_url", "image_url", "text"]);
        assert!(one.get("media_io_kwargs").is_none());
        assert!(one["seed"] != other["seed"] && one["seed"].as_i64().is_some());
        assert_eq!(one["seed"], body(&request(), 0, "m", Media::Video).unwrap()["seed"]);
    }
}
