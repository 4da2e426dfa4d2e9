//! Strict reading of what a plugin writes: an unknown key is refused, since it is most often a misspelt one.

use isr_api::messages::{GenerateMessage, ScoreMessage, TurnMessage, names};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a message whose keys must all be known.
///
/// # Errors
/// The unknown key, or what is wrong with a value.
pub(crate) fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    check::<T>(&value)?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Reads a `generate` message; the keys of its turns are checked too.
pub(crate) fn read_generate(params: Value) -> Result<GenerateMessage<bool>, String> {
    check_turns(&params)?;
    read(params)
}

/// Reads a `score` message; the keys of its turns are checked too.
pub(crate) fn read_score(params: Value) -> Result<ScoreMessage<bool>, String> {
    check_turns(&params)?;
    read(params)
}

fn check_turns(params: &Value) -> Result<(), String> {
    let turns = params.get("prompt").and_then(Value::as_array);
    turns.into_iter().flatten().try_for_each(check::<TurnMessage<bool>>)
}

fn check<T: DeserializeOwned>(value: &Value) -> Result<(), String> {
    let known = names::<T>();
    let unknown = value.as_object().and_then(|it| it.keys().find(|key| !known.contains(&key.as_str())));
    let Some(unknown) = unknown else { return Ok(()) };
    let known: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
    Err(format!("unknown field `{unknown}`, expected one of {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use isr_api::messages::VerdictMessage;
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_keys_are_refused_with_those_that_there_are() {
        let refused = read::<VerdictMessage>(json!({"p_first": 0.5, "p_second": 0.5})).unwrap_err();
        assert_eq!(refused, "unknown field `p_second`, expected one of `p_first`, `votes`, `consistent`");
        let turn = json!({"role": "user", "parts": [{"text": "?"}], "tone": "kind"});
        assert!(read_generate(json!({"prompt": [turn], "seed": 1})).unwrap_err().contains("`tone`"));
        let turn = json!({"role": "user", "parts": [{"video": true}, {"text": "?"}]});
        let read = read_generate(json!({"prompt": [turn], "seed": 1})).unwrap();
        assert_eq!((read.n, read.prompt[0].parts.len()), (1, 2));
    }
}
