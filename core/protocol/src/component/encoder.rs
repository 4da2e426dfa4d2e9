//! An encoder in a process.

use std::sync::Arc;

use async_trait::async_trait;
use isr_api::messages::{EncodeMessage, EncoderProperties, FeaturesFile};
use isr_api::{ComponentError, Fingerprint, Frames, VideoEncoder, VisualFeatures};
use isr_config::plugin::PluginError;
use serde_json::Value;

use super::{Identity, call_error, params};
use crate::error::{SessionError, SessionErrorKind};
use crate::exchange::Exchange;
use crate::keys;
use crate::session::Session;

/// A [`VideoEncoder`] whose component runs in a [`Session`]'s process. Frames and features cross in files.
pub struct RemoteEncoder {
    name: String,
    // Dropped first: the folder outlives the process.
    session: Session,
    exchange: Arc<Exchange>,
    fingerprint: Fingerprint,
    device_key: String,
}

impl RemoteEncoder {
    /// An encoder on a session with an exchange folder; errors carry `name`.
    ///
    /// # Errors
    /// The plugin does not answer `properties`, or with some that cannot be used.
    pub(crate) fn new(
        identity: &Identity,
        session: Session,
        exchange: Arc<Exchange>,
    ) -> Result<Self, SessionError> {
        let value = session.call_blocking("properties", Value::Null)?;
        let told: EncoderProperties = keys::read(value).map_err(SessionErrorKind::Unusable)?;
        let fingerprint = identity.fingerprint(&told.fingerprint).map_err(SessionErrorKind::Unusable)?;
        Ok(Self {
            name: identity.name.clone(),
            session,
            exchange,
            fingerprint,
            device_key: told.device_key,
        })
    }

    /// Reads the features that the plugin wrote. What is wrong with them is no sample's fault.
    fn features(&self, value: Value, frames: &Frames) -> Result<VisualFeatures, String> {
        let FeaturesFile { file, shape, dtype, .. } = keys::read(value)?;
        if shape[0] > frames.len() || shape.contains(&0) {
            return Err(format!("features of shape {shape:?} for {} frames", frames.len()));
        }
        let size = shape.into_iter().chain([dtype.size()]).try_fold(1_usize, usize::checked_mul);
        let bytes = self.exchange.take(&file, size.unwrap_or(usize::MAX))?;
        VisualFeatures::new(dtype, shape, bytes, self.fingerprint.clone())
            .map_err(|error| error.to_string())
    }
}

#[async_trait]
impl VideoEncoder for RemoteEncoder {
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.clone()
    }

    fn device_key(&self) -> String {
        self.device_key.clone()
    }

    async fn encode(&self, frames: &Frames) -> Result<VisualFeatures, ComponentError> {
        let mut lease = self.exchange.lease();
        let message = EncodeMessage {
            frames: lease.frames(frames)?,
            timestamps: frames.timestamps.clone(),
            duration: frames.duration,
        };
        let value = self.session.call("encode", params(&message)?, None).await;
        let value = value.map_err(|error| call_error(&self.name, "encode", &error))?;
        self.features(value, frames).map_err(|reason| {
            let reason = SessionErrorKind::Unusable(reason).to_string();
            PluginError::new(&self.name, "encode", reason).failed()
        })
    }
}
