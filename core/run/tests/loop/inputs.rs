//! A run is continued, and its stages are shared, only with the inputs that it was started with.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use isr_api::{Error, Fingerprint, Sample};
use isr_run::stage_cache::StageCache;
use serde_json::Value;

use crate::bench::{Fakes, Settings, assert_same, open_with, run, run_shared, run_with, scratch, tree};
use crate::control::{Act, Call, Control};
use crate::fakes::{FakeSource, samples};

/// Components on clips in a folder, and the control of their calls.
fn on_clips(folder: &Path, control: &Arc<Control>) -> Fakes {
    let there = |samples: Vec<Sample>| -> Vec<Sample> {
        let there = |sample: Sample| Sample { video: folder.join(&sample.video), ..sample };
        samples.into_iter().map(there).collect()
    };
    let mut fakes = Fakes::new(control);
    let (training, evaluation) = (there(samples("s", 8)), there(samples("e", 3)));
    fakes.components.data = Arc::new(FakeSource { training, evaluation, control: Arc::clone(control) });
    fakes
}

fn write_clips(folder: &Path) {
    fs::create_dir_all(folder.join("clips")).unwrap();
    for name in ["s0", "s1", "s2", "s3", "e0", "e1"] {
        fs::write(folder.join(format!("clips/{name}.mp4")), name).unwrap();
    }
}

/// A run that was cut while it judged.
async fn cut(dir: &Path, folder: &Path) {
    let rule = |call: &Call<'_>| if call.name.starts_with("judge") { Act::Cancelled } else { Act::Work };
    let components = on_clips(folder, &Arc::new(Control::with(rule))).components;
    run_with(dir, &Settings::default(), components).await.unwrap_err();
}

async fn resumed(dir: &Path, folder: &Path) -> Result<(), Error> {
    let components = on_clips(folder, &Arc::default()).components;
    run_with(dir, &Settings::default(), components).await.map(drop)
}

#[tokio::test]
async fn a_run_is_not_continued_on_a_video_that_was_replaced_or_is_gone() {
    let (dir, folder) = (scratch(), scratch());
    write_clips(folder.path());
    cut(dir.path(), folder.path()).await;
    let clip = folder.path().join("clips/e1.mp4");
    let before = tree(dir.path());
    fs::write(&clip, "another").unwrap();
    let replaced = resumed(dir.path(), folder.path()).await.unwrap_err().to_string();
    assert!(replaced.contains("clips/e1.mp4 is not the file that it was"), "{replaced}");
    fs::remove_file(&clip).unwrap();
    let gone = resumed(dir.path(), folder.path()).await.unwrap_err().to_string();
    assert!(gone.contains("clips/e1.mp4 is gone") && gone.contains("put it back"), "{gone}");
    assert_same(&before, &tree(dir.path()), "refused");
    // A copy has another time, and is the same video.
    fs::write(&clip, "e1").unwrap();
    resumed(dir.path(), folder.path()).await.unwrap();
}

#[tokio::test]
async fn stages_are_not_shared_with_a_run_on_other_videos_under_the_same_paths() {
    let (folder, shared) = (scratch(), scratch());
    write_clips(folder.path());
    let made = async || {
        let (dir, control) = (scratch(), Arc::<Control>::default());
        let settings = Settings::with_snapshots();
        let cache = StageCache::new(shared.path(), settings.value(), Fingerprint::of("this program"));
        let components = on_clips(folder.path(), &control).components;
        run_shared(dir.path(), &settings, components, cache).await.unwrap();
        control.calls().iter().filter(|call| call.starts_with("generate")).count()
    };
    let all = made().await;
    assert_eq!(made().await, 0);
    fs::write(folder.path().join("clips/s2.mp4"), "another").unwrap();
    assert_eq!(made().await, all);
}

#[tokio::test]
async fn a_run_is_not_continued_with_another_plugin() {
    let dir = scratch();
    let with = async |plugins: &[(&str, &str)], rule: fn(&Call<'_>) -> Act| {
        let components = Fakes::new(&Arc::new(Control::with(rule))).components;
        let plugins: BTreeMap<String, String> =
            plugins.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let inner = open_with(dir.path(), &Settings::default(), components).unwrap();
        inner.with_plugins(plugins).run().await.map(drop)
    };
    let stop = |call: &Call<'_>| if call.name.starts_with("judge") { Act::Cancelled } else { Act::Work };
    with(&[("judge brevity", "0.1.0 a")], stop).await.unwrap_err();
    for changed in [&[("judge brevity", "0.1.0 b")][..], &[]] {
        let error = with(changed, |_| Act::Work).await.unwrap_err().to_string();
        assert!(error.contains("the plugin of judge brevity changed"), "{error}");
    }
    with(&[("judge brevity", "0.1.0 a")], |_| Act::Work).await.unwrap();
}

#[tokio::test]
async fn a_run_of_an_earlier_version_is_compared_by_what_both_know() {
    let (dir, folder) = (scratch(), scratch());
    write_clips(folder.path());
    cut(dir.path(), folder.path()).await;
    let path = dir.path().join("fingerprints.json");
    let now = tree(dir.path());
    let mut old: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    old.as_object_mut().unwrap().remove("schema");
    // It did not cover the decoder.
    old["video"] = "00000000000000000000000000000000".into();
    fs::write(&path, old.to_string()).unwrap();
    fs::remove_file(dir.path().join("videos.json")).unwrap();
    resumed(dir.path(), folder.path()).await.unwrap();
    for name in ["fingerprints.json", "videos.json"] {
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), *now[name].as_ref().unwrap(), "{name}");
    }
    old["encoder"] = old["video"].clone();
    fs::write(&path, old.to_string()).unwrap();
    let error = resumed(dir.path(), folder.path()).await.unwrap_err().to_string();
    assert!(error.contains("the encoder's weights or preprocessing changed"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_video_whose_name_is_no_text_is_refused_by_the_id_of_its_sample() {
    use std::os::unix::ffi::OsStrExt;
    let dir = scratch();
    let mut training = samples("s", 4);
    training[2].video = std::ffi::OsStr::from_bytes(b"clips/caf\xe9.mp4").into();
    let mut fakes = Fakes::new(&Arc::default());
    fakes.components.data =
        Arc::new(FakeSource { training, evaluation: samples("e", 2), control: Arc::default() });
    let error = run_with(dir.path(), &Settings::default(), fakes.components).await.unwrap_err();
    assert!(
        matches!(&error, Error::Config(text) if text.contains("sample `s2`") && text.contains("UTF-8"))
    );
    // Nothing of it is known by a name that it does not have.
    assert!(!dir.path().join("fingerprints.json").exists());
    run(dir.path(), &Settings::default()).await.unwrap();
}
