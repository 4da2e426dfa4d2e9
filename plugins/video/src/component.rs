//! Registration of the component `video.type = "ffmpeg"`.

use std::sync::Arc;

use isr_api::{BuildContext, Cause, Component, VideoReader};

use crate::config::FfmpegConfig;
use crate::reader::FfmpegReader;

impl Component for FfmpegConfig {
    type Built = Arc<dyn VideoReader>;

    fn validate(&self) -> Result<(), String> {
        self.check()
    }

    fn build(&self, _: &BuildContext) -> Result<Arc<dyn VideoReader>, Cause> {
        self.check()?;
        Ok(Arc::new(FfmpegReader::new(self.clone())))
    }
}

isr_config::register!(Video "ffmpeg" => FfmpegConfig, example = "sampling = { rule = \"uniform\", frames = 8 }\n");
