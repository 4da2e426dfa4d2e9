//! Losses of visual grounding (mDPO, arXiv 2406.11839): the chosen answer must be likelier given the video than
//! given a corrupted one.

use std::sync::Arc;

use isr_api::{BuildContext, Cause, Component, PreferenceObjective};
use isr_config::registry::ObjectiveConfig;
use num_dual::Dual64;

use crate::absolute::AnchorConfig;
use crate::declare::pair_loss;
use crate::dpo::DpoConfig;
use crate::mix::{MixConfig, MixPart};
use crate::numerics::log_sigmoid;
use crate::pair_loss::Pair;

pair_loss! {
    /// Conditional preference, mDPO's second term (CoPO, arXiv 2406.11839, equation 4). `-log sigmoid(beta
    /// (u - u_corrupted))`, with `u` the chosen answer's log-ratio to the reference given the video, and
    /// `u_corrupted` that given a corrupted video: every frame cropped to one random window of 1 to 20 % of
    /// the area. Ignores the rejected answer, so use it as a part of `mix`.
    "copo" => CopoConfig, corrupted, copo {
        /// Scale of the rewards, per nat of log-ratio; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
    }
}

fn copo(config: &CopoConfig, pair: &Pair) -> Dual64 {
    -log_sigmoid(pair.margin() * config.beta)
}

pair_loss! { @config
    /// Multimodal DPO (mDPO, arXiv 2406.11839), which grounds the preference in the video. The sum of `dpo`,
    /// of `copo`, which compares the chosen answer given the video and given a corrupted one, and of `anchor`,
    /// which keeps the chosen answer likely. Logs the metrics of all three, and their losses as `loss.1_dpo`,
    /// `loss.2_copo` and `loss.3_anchor`.
    MdpoConfig {
        /// Scale of the rewards, per nat of log-ratio; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
        /// Target of the chosen answer's reward, the paper's delta; in [-1e6, 1e6]. Default 0.
        anchor: f64 = 0.0, Within(-1e6, 1e6);
    }
}

impl Component for MdpoConfig {
    type Built = Arc<dyn PreferenceObjective>;

    fn validate(&self) -> Result<(), String> {
        self.check()
    }

    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause> {
        let Self { beta, anchor } = *self;
        let parts: [Box<dyn ObjectiveConfig>; 3] = [
            Box::new(DpoConfig { beta, ..DpoConfig::default() }),
            Box::new(CopoConfig { beta }),
            Box::new(AnchorConfig { beta, anchor }),
        ];
        let parts = parts.map(|objective| MixPart { weight: 1.0, objective }).into();
        Component::build(&MixConfig { parts }, cx)
    }
}

isr_config::register!(Objective "mdpo" => MdpoConfig, example = "beta = 0.1\n");
