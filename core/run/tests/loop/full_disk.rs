//! A disk that is full stops a run, which goes on once there is room.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use isr_api::Error;

use crate::bench::{Settings, assert_same, run, run_under, scratch, tree};
use crate::control::{Act, Call, Control};

#[tokio::test]
async fn a_checkpoint_that_finds_no_room_leaves_no_half_and_the_run_goes_on() {
    let (whole, dir) = (scratch(), scratch());
    let settings = Settings::with_snapshots();
    run(whole.path(), &settings).await.unwrap();
    for save in 0..3 {
        let saved = AtomicUsize::new(0);
        let full = move |call: &Call<'_>| match call.name {
            "save" if saved.fetch_add(1, Ordering::Relaxed) == save => Act::Full,
            _ => Act::Work,
        };
        let error = run_under(dir.path(), &settings, &Arc::new(Control::with(full))).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::NoSpace { .. }), "{text}");
        for part in ["No space left on device", "or more", "are free in", "make room"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let names = tree(dir.path());
        assert!(!names.keys().any(|name| name.contains(".tmp")), "{:?}", names.keys());
    }
    run(dir.path(), &settings).await.unwrap();
    assert_same(&tree(whole.path()), &tree(dir.path()), "after room was made");
    assert!(fs::exists(dir.path().join("iteration-02/checkpoint")).unwrap());
}
