//! Losses that teach the policy to look: the chosen answer has to be likelier after the video than after a
//! corrupted one (mDPO, arXiv 2406.11839).

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
    /// (u - u_corrupted))`, with `u` the chosen answer's log-ratio to the reference, and `u_corrupted` the same
    /// where both see a corrupted video: every frame cropped to one random window of 1 to 20 % of the area.
    /// Alone it knows no rejected answer; a part of `mix`.
    "copo" => CopoConfig, corrupted, copo {
        /// Scale of the rewards; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
    }
}

fn copo(config: &CopoConfig, pair: &Pair) -> Dual64 {
    -log_sigmoid(pair.margin() * config.beta)
}

pair_loss! { @config
    /// mDPO, which makes the policy look at the video (arXiv 2406.11839). The sum of `dpo`, of `copo`, which
    /// compares the chosen answer with itself under a corrupted video, and of `anchor`, which keeps the chosen
    /// answer likely. Logs what they log, and each one's loss as `loss.1_dpo`, `loss.2_copo` and `loss.3_anchor`.
    MdpoConfig {
        /// Scale of the rewards; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
        /// What the chosen answer's reward has to pass, the paper's delta; in [-1e6, 1e6]. Default 0.
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
