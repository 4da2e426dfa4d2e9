//! Contract tests of encoders.

use std::sync::Arc;

use futures::future::join_all;
use isr_api::{Frames, VideoEncoder, VisualFeatures};

use crate::call::{Outcome, call};
use crate::finding::{Failure, Findings};
use crate::fixtures::frames;

/// Tests an encoder against its contract.
///
/// | rule | requirement |
/// |---|---|
/// | `features` | ordinary clips are encoded |
/// | `layout` | `frames * tokens * dim` elements of the type, none of them zero, frames no more than given |
/// | `constant` | tokens and dim are the same for all clips of one size |
/// | `pure` | the same frames give the same bytes, and the fingerprint does not change |
/// | `concurrent` | clips that are encoded together get the bytes that they get alone |
/// | `errors` | no panic, whatever the frames |
pub async fn encoder(encoder: Arc<dyn VideoEncoder>) -> Vec<Failure> {
    let mut findings = Findings::default();
    let fingerprint = encoder.fingerprint();
    let clips = [frames(1, 32, 24), frames(4, 32, 24), frames(8, 32, 24)];
    let mut alone: Vec<Option<VisualFeatures>> = Vec::new();
    for clip in &clips {
        let features = features(&encoder, clip, &mut findings).await;
        let again = call(encoder.encode(clip)).await;
        findings.require(matches(&features, again), "pure", || {
            "the same frames gave other features the second time".to_owned()
        });
        alone.push(features);
        if findings.hung() {
            return findings.done();
        }
    }
    let rows: Vec<_> = alone.iter().flatten().map(|features| &features.shape[1..]).collect();
    findings.require(rows.windows(2).all(|pair| pair[0] == pair[1]), "constant", || {
        format!("clips of one size got [tokens, dim] of {rows:?}")
    });
    check_together(&encoder, &clips, &alone, &mut findings).await;
    check_hostile(&encoder, &mut findings).await;
    let now = encoder.fingerprint();
    findings.require(now == fingerprint, "pure", || {
        format!("the fingerprint was {fingerprint} and is {now}; nothing trains an encoder")
    });
    findings.done()
}

async fn features(
    encoder: &Arc<dyn VideoEncoder>,
    clip: &Frames,
    findings: &mut Findings,
) -> Option<VisualFeatures> {
    let what = format!("a clip of {} frames", clip.len());
    let outcome = call(encoder.encode(clip)).await;
    if let Outcome::Refused(reason) = &outcome {
        findings.note("features", format!("{what} was refused with \"{reason}\""));
    }
    let features = outcome.value_or_refusal(findings, &what)?;
    let VisualFeatures { dtype, shape, bytes, .. } = &features;
    let elements: u128 = shape.iter().map(|&extent| extent as u128).product();
    let whole = elements > 0 && elements * dtype.size() as u128 == bytes.len() as u128;
    findings.require(whole && shape[0] <= clip.len(), "layout", || {
        format!("{what} got shape {shape:?} of {dtype:?} in {} bytes", bytes.len())
    });
    Some(features)
}

fn matches(features: &Option<VisualFeatures>, outcome: Outcome<VisualFeatures>) -> bool {
    match outcome {
        Outcome::Returned(again) => features.as_ref() == Some(&again),
        _ => features.is_none(),
    }
}

async fn check_together(
    encoder: &Arc<dyn VideoEncoder>,
    clips: &[Frames],
    alone: &[Option<VisualFeatures>],
    findings: &mut Findings,
) {
    let calls = clips.iter().cloned().map(|clip| {
        let encoder = Arc::clone(encoder);
        tokio::spawn(async move { call(encoder.encode(&clip)).await })
    });
    for (outcome, features) in join_all(calls).await.into_iter().zip(alone) {
        let outcome = outcome.unwrap_or(Outcome::TookTooLong);
        findings.require(matches(features, outcome), "concurrent", || {
            "a clip got other features beside others than alone".to_owned()
        });
    }
}

async fn check_hostile(encoder: &Arc<dyn VideoEncoder>, findings: &mut Findings) {
    let empty = Frames { width: 4, height: 4, rgb: Vec::new(), timestamps: Vec::new(), duration: 0.0 };
    let short = Frames { rgb: vec![0; 7], ..frames(2, 4, 4) };
    let clips = [
        ("one pixel", frames(1, 1, 1)),
        ("a line", frames(1, 512, 1)),
        ("no frame", empty),
        ("bytes missing", short),
    ];
    for (what, clip) in clips {
        // Any error is allowed here, as the caller is at fault.
        if let Outcome::Panicked(text) = call(encoder.encode(&clip)).await {
            findings.note("errors", format!("a clip of {what} made it panic with \"{text}\""));
        }
    }
}
