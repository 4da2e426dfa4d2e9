//! What the bodies of chat completions share.

use isr_api::{ComponentError, Frames, GenerateRequest, Message, Part, Role, Sampling, Streams};
use isr_chat::data_urls;
use serde_json::{Map, Value, json};

use crate::config::Media;

/// Returns the body of the request for response `index`, whose draws depend on its own seed. `video` writes the frames of a
/// video as a part of a message.
///
/// All parameters are sent, as a server takes those that are missing from the checkpoint's `generation_config.json`.
pub(crate) fn body(
    request: &GenerateRequest,
    index: usize,
    media: Media,
    mut video: impl FnMut(&Frames) -> Result<Value, ComponentError>,
) -> Result<Map<String, Value>, ComponentError> {
    let messages = request.prompt.messages.iter().map(|message| written(message, media, &mut video));
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    let Sampling { temperature, top_p, top_k, max_new_tokens, stop } = &request.sampling;
    let seed = Streams::new(request.seed).seed(index as u32, "answer", "") >> 1;
    let pairs = [
        ("messages", json!(messages)),
        ("max_tokens", json!(max_new_tokens)),
        ("seed", json!(seed)),
        ("temperature", json!(temperature)),
        ("top_p", json!(top_p)),
        ("top_k", json!(top_k)),
        ("min_p", json!(0.0)),
        ("repetition_penalty", json!(1.0)),
        ("presence_penalty", json!(0.0)),
        ("frequency_penalty", json!(0.0)),
        ("stop", json!(stop)),
        ("skip_special_tokens", json!(true)),
        ("logprobs", json!(true)),
        ("return_token_ids", json!(true)),
    ];
    Ok(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn written(
    message: &Message,
    media: Media,
    video: &mut impl FnMut(&Frames) -> Result<Value, ComponentError>,
) -> Result<Value, ComponentError> {
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
            Part::Video(scene) => content.push(video(&scene.frames)?),
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

/// A part of a message with a video at a `data:` URL.
pub(crate) fn video_part(url: &str) -> Value {
    json!({ "type": "video_url", "video_url": { "url": url } })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use isr_api::{Prompt, VideoInput};

    use super::*;

    /// A question about frames at these times, in seconds.
    pub(crate) fn request(times: &[f64]) -> GenerateRequest {
        let rgb = (0..6 * times.len()).map(|value| value as u8).collect();
        let frames = Frames::new(2, 1, rgb, times.to_vec()).unwrap().with_duration(1.0);
        let scene = VideoInput { video: "clip.mp4".into(), frames: Arc::new(frames), features: None };
        let prompt = Prompt::about(&scene, "what?").with_system("Be brief.");
        let sampling = Sampling { temperature: 0.7, top_k: 5, max_new_tokens: 9, ..Sampling::default() };
        GenerateRequest { prompt, sampling, n: 2, seed: 3 }
    }

    #[test]
    fn frames_may_be_pictures_and_responses_have_seeds_of_their_own() {
        let request = request(&[0.0, 0.5]);
        let body = |index, media| body(&request, index, media, |_| Ok(json!("a video"))).unwrap();
        let [one, other] = [0, 1].map(|index| body(index, Media::Images));
        assert_eq!(one["messages"][0], json!({ "role": "system", "content": "Be brief." }));
        let kinds: Vec<_> =
            one["messages"][1]["content"].as_array().unwrap().iter().map(|it| it["type"].clone()).collect();
        assert_eq!(kinds, ["image_url", "image_url", "text"]);
        assert!(one["seed"] != other["seed"] && one["seed"].as_i64().is_some());
        let video = body(0, Media::Video);
        assert_eq!(one["seed"], video["seed"]);
        assert_eq!(video["messages"][1]["content"][0], "a video");
        assert_eq!(
            (&video["top_k"], &video["max_tokens"], &video["temperature"]),
            (&json!(5), &json!(9), &json!(0.7))
        );
    }
}
