//! What a user reads when a config is wrong.

use std::fs;

use isr_config::Loader;

use crate::{MINIMAL, message, minimal_with, text};

fn wrong(toml: &str) -> String {
    message(&minimal_with(toml))
}

#[test]
fn unknown_keys_are_named_with_file_and_nearest_key() {
    insta::assert_snapshot!(wrong("[train]\nlearning_rat = 1"), @"unknown key `train.learning_rat` in run.toml; did you mean `learning_rate`?");
    insta::assert_snapshot!(wrong("[objective]\nbetta = 1"), @"unknown key `objective.betta` in run.toml; did you mean `beta`?");
    insta::assert_snapshot!(wrong("[loop.sampling]\ntemprature = 1"), @"unknown key `loop.sampling.temprature` in run.toml; did you mean `temperature`?");
    insta::assert_snapshot!(wrong("[policy.lora]\nrank = 8\nalhpa = 2"), @"unknown key `policy.lora.alhpa` in run.toml; did you mean `alpha`?");
    insta::assert_snapshot!(wrong("[video.fit]\nhow = 'pad'\ncolor = [0, 0, 0]"), @"
    2 problems in the config:
    - unknown key `video.fit.color` in run.toml; did you mean `colour`?
    - missing key `video.fit.colour` in run.toml (Red, green and blue)
    ");
    insta::assert_snapshot!(wrong("[judge]\ntype = 'vote'\nmembers = [{ type = 'self', treshold = 1 }]"), @"unknown key `judge.members[0].treshold` in run.toml; did you mean `threshold`?");
    insta::assert_snapshot!(wrong("[trian]\nepochs = 1"), @"unknown key `trian` in run.toml; did you mean `train`?");
    insta::assert_snapshot!(wrong("[selection]\nmargin = 1"), @"unknown key `selection.margin` in run.toml; known: type");
}

#[test]
fn the_origin_may_be_a_variable_or_an_override() {
    let variable = text("run.toml", MINIMAL).variables([("ISR__TRAIN__EPOCH", "1")]);
    insta::assert_snapshot!(message(&variable), @"unknown key `train.epoch` in environment variable `ISR__TRAIN__EPOCH`; did you mean `epochs`?");
    let value = text("run.toml", MINIMAL).overrides(["train.epochs=many"]);
    insta::assert_snapshot!(message(&value), @r#"`train.epochs` in `-s train.epochs=many`: expected an integer, found string "many""#);
}

#[test]
fn wrong_types_say_what_was_expected_and_found() {
    insta::assert_snapshot!(wrong("[train]\nepochs = 'two'"), @r#"`train.epochs` in run.toml: expected an integer, found string "two""#);
    insta::assert_snapshot!(wrong("[train]\nepochs = 1.5"), @"`train.epochs` in run.toml: expected an integer, found the number 1.5");
    insta::assert_snapshot!(wrong("train = 3"), @"`train` in run.toml: expected a table, found integer 3");
    insta::assert_snapshot!(wrong("name = ['a']"), @"`name` in run.toml: expected a string, found a list");
    insta::assert_snapshot!(wrong("[loop]\nsamples = true"), @r#"`loop.samples` in run.toml: expected an integer or "none", found true"#);
    insta::assert_snapshot!(wrong("[loop.sampling]\nstop = 'x'"), @r#"`loop.sampling.stop` in run.toml: expected a list, found string "x""#);
    insta::assert_snapshot!(wrong("[loop.sampling]\nstop = ['x', 2]"), @"`loop.sampling.stop[1]` in run.toml: expected a string, found integer 2");
    insta::assert_snapshot!(wrong("[objective]\nbeta = nan"), @"`objective.beta` in run.toml: expected a finite number, found the number NaN");
    insta::assert_snapshot!(wrong("[data]\nfields = { a = 1 }"), @"`data.fields.a` in run.toml: expected a string, found integer 1");
    insta::assert_snapshot!(wrong("[data]\nsize = [1, 'x']"), @r#"`data.size[1]` in run.toml: expected an integer, found string "x""#);
    insta::assert_snapshot!(wrong("[data]\nsize = [1]"), @"`data.size` in run.toml has 1 items; it must have 2");
    insta::assert_snapshot!(wrong("[encoder]\nlayers = 'all'"), @r#"`encoder.layers` in run.toml: expected an integer or a list, found string "all""#);
    insta::assert_snapshot!(wrong("judge = 'self'"), @r#"`judge` in run.toml: expected a table with the key `type`, found string "self""#);
    insta::assert_snapshot!(wrong("[judge]\ntype = 1"), @"`judge.type` in run.toml: expected one of self, vote, found integer 1");
}

#[test]
fn choices_list_what_is_allowed() {
    insta::assert_snapshot!(wrong("[train]\nschedule = 'lineal'"), @r#"`train.schedule` in run.toml is "lineal", which is not among its values; did you mean `linear`?"#);
    insta::assert_snapshot!(wrong("[objective]\nform = 'exo'"), @r#"`objective.form` in run.toml is "exo", which is not among its values; known: hinge, sigmoid, ipo"#);
    insta::assert_snapshot!(wrong("[objective]\nform = 1"), @"`objective.form` in run.toml: expected one of hinge, sigmoid, ipo, found integer 1");
    insta::assert_snapshot!(wrong("[judge]\ntype = 'slef'"), @"unknown judge `slef` in run.toml; did you mean `self`? known: self, vote");
    insta::assert_snapshot!(wrong("[judge]\ntype = 'human'"), @"unknown judge `human` in run.toml; known: self, vote");
    insta::assert_snapshot!(wrong("[judge]\ntype = 'vote'\nmembers = [{ type = 'slef' }]"), @"unknown judge `slef` at `judge.members[0]` in run.toml; did you mean `self`? known: self, vote");
    insta::assert_snapshot!(wrong("[judge]\ntype = 'vote'\nmembers = [{ threshold = 1 }]"), @"`judge.members[0]` in run.toml has no `type`; known: self, vote");
    insta::assert_snapshot!(wrong("[video.fit]\nhow = 'stretch'"), @"unknown fit `stretch` at `video.fit` in run.toml; known: crop, pad");
}

#[test]
fn missing_keys_and_sections_say_what_they_are_for() {
    insta::assert_snapshot!(message(&text("run.toml", "")), @"
    6 problems in the config:
    - missing section `[data]` (Source of training and evaluation samples); known values of `type`: list
    - missing section `[video]` (Video decoding and frame sampling); known values of `type`: frames
    - missing section `[policy]` (Model to align); known values of `type`: broken, tiny
    - missing section `[judge]` (Pairwise judge of responses); known values of `type`: self, vote
    - missing section `[objective]` (Preference loss); known values of `type`: dpo
    - missing section `[selection]` (Rule that turns verdicts into preference pairs); known values of `type`: all
    ");
    insta::assert_snapshot!(wrong("[judge]\ntype = 'vote'"), @"missing key `judge.members` in run.toml (Who votes)");
    insta::assert_snapshot!(wrong("[policy]\nlora = { alpha = 1.0 }"), @"missing key `policy.lora.rank` in run.toml (Rank)");
}

#[test]
fn values_out_of_range_are_named() {
    insta::assert_snapshot!(wrong("[judge]\nthreshold = 2.0"), @"`judge.threshold` in run.toml is 2; it must be in [0.5, 1]");
    insta::assert_snapshot!(wrong("seed = -1"), @"`seed` in run.toml is -1; it must be at least 0");
    insta::assert_snapshot!(wrong("[loop]\niterations = 5000000000"), @"`loop.iterations` in run.toml is 5000000000; it must be at most 4294967295");
    insta::assert_snapshot!(wrong("[video]\nframes = 256"), @"`video.frames` in run.toml is 256; it must be at most 255");
    let loop_and_train = "name = '../x'
        loop = { iterations = 0, responses = 1, samples = 0, concurrency = 0, quarantine_limit = 2 }
        train = { epochs = 0, batch_size = 0, learning_rate = 0, warmup_ratio = -0.1, max_grad_norm = -1 }
        evaluation = { samples = 0, max_new_tokens = 0 }";
    insta::assert_snapshot!(wrong(loop_and_train), @r#"
    13 problems in the config:
    - `name` in run.toml is "../x"; it must be letters, digits, `.`, `_` and `-`, not beginning with `.`
    - `loop.iterations` in run.toml is 0; it must be at least 1
    - `loop.responses` in run.toml is 1; it must be at least 2
    - `loop.samples` in run.toml is 0; it must be at least 1
    - `loop.concurrency` in run.toml is 0; it must be at least 1
    - `loop.quarantine_limit` in run.toml is 2; it must be in [0, 1]
    - `train.epochs` in run.toml is 0; it must be at least 1
    - `train.batch_size` in run.toml is 0; it must be at least 1
    - `train.learning_rate` in run.toml is 0; it must be above 0
    - `train.warmup_ratio` in run.toml is -0.1; it must be in [0, 1]
    - `train.max_grad_norm` in run.toml is -1; it must be 0 (off) or more
    - `evaluation.samples` in run.toml is 0; it must be at least 1
    - `evaluation.max_new_tokens` in run.toml is 0; it must be at least 1
    "#);
    insta::assert_snapshot!(wrong("[train]\nsnapshot_every = 0\n[loop.sampling]\ntop_p = 0"), @"
    2 problems in the config:
    - `loop.sampling.top_p` in run.toml is 0; it must be in (0, 1]
    - `train.snapshot_every` in run.toml is 0; it must be at least 1
    ");
}

#[test]
fn all_problems_come_at_once() {
    insta::assert_snapshot!(wrong("sed = 1\n[train]\nepochs = 'x'\n[judge]\ntype = 'slef'"), @r#"
    3 problems in the config:
    - unknown judge `slef` in run.toml; did you mean `self`? known: self, vote
    - unknown key `sed` in run.toml; did you mean `seed`?
    - `train.epochs` in run.toml: expected an integer, found string "x"
    "#);
}

#[test]
fn syntax_errors_show_line_and_column() {
    insta::assert_snapshot!(wrong("[train]\nepochs = = 2"), @"
    run.toml is not valid TOML: TOML parse error at line 2, column 10
      |
    2 | epochs = = 2
      |          ^
    extra `=`, expected nothing
    ");
    insta::assert_snapshot!(wrong("seed = 1\nseed = 2"), @"
    run.toml is not valid TOML: TOML parse error at line 2, column 1
      |
    2 | seed = 2
      | ^^^^
    duplicate key
    ");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    insta::assert_snapshot!(message(&Loader::new().file("no/such/dir/../run.toml")), @"cannot read config no/such/run.toml: there is no such file");
    insta::assert_snapshot!(message(&text("run.toml", "extends = 'no-such-base.toml'")), @"cannot read config no-such-base.toml, which run.toml extends: there is no such file");
    insta::assert_snapshot!(message(&text("run.toml", "extends = 3")), @"`extends` in run.toml: expected a file name, or a list of them");
}

#[test]
fn a_circle_of_files_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("top.toml", "extends = 'a.toml'");
    write("a.toml", "extends = './b.toml'");
    write("b.toml", "extends = 'a.toml'");
    let text = message(&Loader::new().file(dir.path().join("top.toml")));
    let text = text.replace(&format!("{}/", dir.path().display()), "");
    insta::assert_snapshot!(text, @"config files extend each other in a circle: a.toml -> b.toml -> a.toml");
}
