//! The macro that declares a pair loss: config, validation and registration from one list of settings.

/// Declares the config of a [`PairLoss`](crate::PairLoss), implements the trait and registers the objective.
///
/// ```text
/// pair_loss! {
///     /// Name, paper, formula.
///     "name" => NameConfig, ratios, name_loss {
///         /// Meaning, range, default.
///         beta: f64 = 0.1, Positive;
///     }
/// }
/// fn name_loss(config: &NameConfig, pair: &Pair) -> Dual64 { ... }
/// ```
///
/// The word after the config's name is the loss's argument. It determines the [`LossSpec`](crate::LossSpec)
/// and adds settings:
///
/// | word | argument | added settings |
/// |---|---|---|
/// | `scores` | score margin | `f_divergence_type`, `f_alpha_divergence_coef`, `ld_alpha`, `wpo` |
/// | `ratios` | log-ratios to the reference | `ld_alpha`, `wpo` |
/// | `pairs` | log-ratios and lengths | |
/// | `decayed` | log-ratios, with token weights `gamma^t`; the loss has a setting `gamma` | |
/// | `corrupted` | log-ratios of the chosen answer given the video and given a corrupted one | |
/// | `sums`, `means` | log-probs under the policy, no reference; `means` logs rewards per token | |
///
/// The first setting of every loss is `beta`.
macro_rules! pair_loss {
    ($(#[$doc:meta])* $name:literal => $config:ident, scores, $loss:path { $($own:tt)* }) => {
        pair_loss! { @more $(#[$doc])* $name => $config, scores, $loss { $($own)*
            /// f-divergence that regularises the policy towards the reference (f-DPO, arXiv 2309.16240).
            /// Default `reverse_kl`.
            f_divergence_type: $crate::divergence::Divergence = Default::default(), Any;
            /// Alpha of `alpha_divergence`, in [-10, 10]; 1 is the reverse KL. Default 0.5.
            f_alpha_divergence_coef: f64 = 0.5, Within(-10.0, 10.0);
        } }
    };
    ($(#[$doc:meta])* $name:literal => $config:ident, ratios, $loss:path { $($own:tt)* }) => {
        pair_loss! { @more $(#[$doc])* $name => $config, ratios, $loss { $($own)* } }
    };
    ($(#[$doc:meta])* $name:literal => $config:ident, $on:ident, $loss:path { $($own:tt)* }) => {
        pair_loss! { @all $(#[$doc])* $name => $config, $on, $loss { $($own)* } }
    };
    (@more $(#[$doc:meta])* $name:literal => $config:ident, $on:ident, $loss:path { $($own:tt)* }) => {
        pair_loss! { @all $(#[$doc])* $name => $config, $on, $loss { $($own)*
            /// Weight of the tokens past the length of the shorter answer, in [0, 1] (LD-DPO, arXiv
            /// 2409.06411); 1 changes nothing. Default: none.
            #[serde(skip_serializing_if = "Option::is_none")]
            ld_alpha: Option<f64> = None, Within(0.0, 1.0);
            /// Whether each pair is weighted by the product of both answers' mean token probabilities, without
            /// gradient (WPO, arXiv 2406.11827, without its weight alignment: TRL's `use_weighting` divides by
            /// the sum of squared probabilities, which policies do not return). Default false.
            wpo: bool = false, Any;
        } }
    };
    (@all $(#[$doc:meta])* $name:literal => $config:ident, $on:ident, $loss:path {
        $(#[$beta_doc:meta])* beta: f64 = $beta:expr, $beta_bounds:expr;
        $($(#[$field_doc:meta])* $field:ident : $ty:ty = $default:expr, $bounds:expr;)*
    }) => {
        pair_loss! { @config $(#[$doc])* $config {
            $(#[$beta_doc])* beta: f64 = $beta, $beta_bounds;
            $($(#[$field_doc])* $field : $ty = $default, $bounds;)*
        } }

        impl isr_api::Component for $config {
            type Built = std::sync::Arc<dyn isr_api::PreferenceObjective>;

            fn validate(&self) -> Result<(), String> {
                self.check()
            }

            fn build(&self, _: &isr_api::BuildContext) -> Result<Self::Built, isr_api::Cause> {
                Ok(std::sync::Arc::new($crate::pair_loss::PairObjective(self.clone())))
            }
        }

        isr_config::register!(Objective $name => $config, example = concat!("beta = ", stringify!($beta), "\n"));

        impl $crate::pair_loss::PairLoss for $config {
            fn loss(&self, pair: &$crate::pair_loss::Pair) -> num_dual::Dual64 {
                $loss(self, pair)
            }

            fn spec(&self) -> $crate::spec::LossSpec {
                let plain = $crate::spec::LossSpec { beta: self.beta, ..Default::default() };
                pair_loss!(@spec $on, self, plain)
            }
        }
    };
    (@config $(#[$doc:meta])* $config:ident {
        $($(#[$field_doc:meta])* $field:ident : $ty:ty = $default:expr, $bounds:expr;)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $config {
            $($(#[$field_doc])* pub $field: $ty,)*
        }

        impl Default for $config {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $config {
            fn check(&self) -> Result<(), String> {
                #[allow(unused_imports, reason = "each loss uses some")]
                use $crate::bounds::Bounds::*;
                $($crate::bounds::Checked::check(&self.$field, stringify!($field), $bounds)?;)*
                Ok(())
            }
        }
    };
    (@spec scores, $config:expr, $plain:expr) => {
        $crate::spec::LossSpec {
            divergence: $config.f_divergence_type,
            divergence_alpha: $config.f_alpha_divergence_coef,
            ld_alpha: $config.ld_alpha,
            wpo: $config.wpo,
            ..$plain
        }
    };
    (@spec ratios, $config:expr, $plain:expr) => {
        $crate::spec::LossSpec { ld_alpha: $config.ld_alpha, wpo: $config.wpo, ..$plain }
    };
    (@spec decayed, $config:expr, $plain:expr) => {
        $crate::spec::LossSpec { gamma: Some($config.gamma), ..$plain }
    };
    (@spec corrupted, $config:expr, $plain:expr) => {
        $crate::spec::LossSpec { against: isr_api::View::ChosenCorrupted, ..$plain }
    };
    (@spec pairs, $config:expr, $plain:expr) => {
        $plain
    };
    (@spec sums, $config:expr, $plain:expr) => {
        $crate::spec::LossSpec { reference: false, ..$plain }
    };
    (@spec means, $config:expr, $plain:expr) => {
        $crate::spec::LossSpec { reference: false, per_token_rewards: true, ..$plain }
    };
}

pub(crate) use pair_loss;
