//! `GET /v1/models`.

use serde_json::{Value, json};

use crate::openai::app::App;
use crate::openai::error::ApiError;

/// The list of models, which has one entry.
pub(crate) fn list(app: &App) -> Value {
    json!({ "object": "list", "data": [model(app)] })
}

/// The model of a name.
pub(crate) fn named(app: &App, name: &str) -> Result<Value, ApiError> {
    match name == app.name {
        true => Ok(model(app)),
        false => Err(ApiError::no_such_model(name, &app.name)),
    }
}

fn model(app: &App) -> Value {
    json!({ "id": app.name, "object": "model", "created": app.started, "owned_by": "isr-dpo" })
}
