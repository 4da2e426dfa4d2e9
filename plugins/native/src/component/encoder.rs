//! Encoders.

use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{Cause, ComponentError, Fingerprint, Frames, VideoEncoder, VisualFeatures};
use isr_plugin::wire::{self, FeaturesMessage, Message, Packing, TextMessage};

use crate::answers::Answers;
use crate::runner::Runner;

/// An encoder of a library.
pub(crate) struct NativeEncoder {
    runner: Runner,
    fingerprint: Fingerprint,
    device_key: String,
}

impl NativeEncoder {
    /// An encoder whose fingerprint and device key are asked for once, since encoders are not trained.
    pub(crate) fn new(runner: Runner) -> Result<Self, Cause> {
        let text = |method| -> Result<String, ComponentError> {
            let reply = runner.call_now(method, &Message::default())?;
            Ok(runner.read::<TextMessage>(method, &reply)?.text)
        };
        let (fingerprint, device_key) = (text("fingerprint")?, text("computed_on")?);
        Ok(Self { fingerprint: wire::parse_fingerprint(&fingerprint), device_key, runner })
    }
}

#[async_trait]
impl VideoEncoder for NativeEncoder {
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.clone()
    }

    fn device_key(&self) -> String {
        self.device_key.clone()
    }

    async fn encode(&self, frames: &Frames) -> Result<VisualFeatures, ComponentError> {
        let mut packing = Packing::default();
        let message = packing.frames(&Arc::new(frames.clone()));
        let request = Message::new(&message, packing.blobs);
        let reply = self.runner.call("encode", request, Answers::nobody(self.runner.name())).await?;
        let features = self.runner.read::<FeaturesMessage>("encode", &reply)?;
        let features =
            wire::features(&reply, features).map_err(|error| self.runner.failed("encode", error))?;
        Ok(VisualFeatures { encoder: self.fingerprint(), ..features })
    }
}
