//! Tensor names of the LLaVA repositories.

use crate::model::projector::NEWLINE;

/// Config keys that name a tower for videos, in order of preference, with the prefix of its tensors.
pub(super) const TOWERS: [(&str, &str); 3] = [
    ("mm_video_tower", "video_tower."),
    ("mm_image_tower", "image_tower."),
    ("mm_vision_tower", "vision_tower."),
];

/// Maps LLaVA's tensor names to this crate's.
pub(in crate::model::families) fn canonical(name: &str) -> String {
    if name.starts_with("lm_head.") {
        return format!("language_model.{name}");
    }
    let rest = name.strip_prefix("model.").unwrap_or(name);
    if rest == "image_newline" {
        return NEWLINE.to_owned();
    }
    for (index, layer) in PROJECTOR {
        if let Some(rest) = rest.strip_prefix(index) {
            return format!("{layer}{rest}");
        }
    }
    for (_, prefix) in TOWERS {
        if let Some(rest) = rest.strip_prefix(prefix) {
            let rest = rest.strip_prefix(prefix).unwrap_or(rest);
            return format!("{prefix}{}", rest.strip_prefix("vision_model.").unwrap_or(rest));
        }
    }
    format!("language_model.model.{rest}")
}

const PROJECTOR: [(&str, &str); 2] = [
    ("mm_projector.0.", "multi_modal_projector.linear_1."),
    ("mm_projector.2.", "multi_modal_projector.linear_2."),
];

/// Maps this crate's tensor names to LLaVA's.
pub(in crate::model::families) fn saved(canonical: &str) -> String {
    if let Some(rest) = canonical.strip_prefix("language_model.model.") {
        return format!("model.{rest}");
    }
    if canonical == NEWLINE {
        return "model.image_newline".to_owned();
    }
    for (index, layer) in PROJECTOR {
        if let Some(rest) = canonical.strip_prefix(layer) {
            return format!("model.{index}{rest}");
        }
    }
    for (_, prefix) in TOWERS {
        if let Some(rest) = canonical.strip_prefix(prefix) {
            // LLaVA's own tower is a whole CLIPVisionModel, LanguageBind's the transformer in one.
            let inner = if prefix == "vision_tower." { "vision_model." } else { "" };
            return format!("model.{prefix}{prefix}{inner}{rest}");
        }
    }
    canonical.strip_prefix("language_model.").unwrap_or(canonical).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        let cases = [
            ("model.embed_tokens.weight", "language_model.model.embed_tokens.weight"),
            (
                "model.layers.3.self_attn.q_proj.weight",
                "language_model.model.layers.3.self_attn.q_proj.weight",
            ),
            ("lm_head.weight", "language_model.lm_head.weight"),
            ("model.mm_projector.0.bias", "multi_modal_projector.linear_1.bias"),
            ("model.mm_projector.2.weight", "multi_modal_projector.linear_2.weight"),
            ("model.image_newline", NEWLINE),
            ("model.video_tower.video_tower.pre_layrnorm.bias", "video_tower.pre_layrnorm.bias"),
            ("model.image_tower.image_tower.pre_layrnorm.bias", "image_tower.pre_layrnorm.bias"),
            (
                "model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias",
                "vision_tower.pre_layrnorm.bias",
            ),
        ];
        for (file, ours) in cases {
            assert_eq!(canonical(file), ours);
            assert_eq!(saved(ours), file);
        }
    }
}
