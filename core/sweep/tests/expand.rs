//! From sweep files to arms.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use isr_sweep::{Arm, Resources, SweepError, SweepFile, expand};

fn arms(text: &str) -> Result<Vec<Arm>, SweepError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sweep.toml");
    std::fs::write(&path, format!("extends = \"base.toml\"\nseeds = [1]\n{text}")).unwrap();
    let read = SweepFile::read(&path).and_then(|file| expand(&file));
    read.map_err(|error| match error {
        SweepError::Unusable(text) => {
            SweepError::Unusable(text.replace(&format!("{}: ", path.display()), ""))
        }
        other => other,
    })
}

fn names(text: &str) -> Vec<String> {
    arms(text).unwrap().into_iter().map(|arm| arm.name).collect()
}

fn refusal(text: &str) -> String {
    arms(text).unwrap_err().to_string()
}

#[test]
fn without_variants_there_is_the_base() {
    let resources = Resources { cpus: 1, gpus: 0, processes: 1 };
    assert_eq!(arms("").unwrap(), [Arm { name: "base".to_owned(), set: Vec::new(), resources }]);
}

#[test]
fn an_arm_has_the_resources_of_the_sweep_where_it_names_none() {
    let text = r#"
        cpus = 8
        gpus = 4
        processes = 4
        arms = [{ name = "large" }, { name = "small", gpus = 0, processes = 1 }]
        [grid]
        "objective.beta" = [0.1, 0.2]
        [[exclude]]
        "objective.beta" = 0.1
    "#;
    let found: Vec<_> = arms(text).unwrap().into_iter().map(|arm| (arm.name, arm.resources)).collect();
    let (large, small) =
        (Resources { cpus: 8, gpus: 4, processes: 4 }, Resources { cpus: 8, gpus: 0, processes: 1 });
    assert_eq!(found, [("large,beta=0.2".to_owned(), large), ("small,beta=0.2".to_owned(), small)]);
}

#[test]
fn resources_that_processes_cannot_divide_are_refused() {
    let uneven = "`gpus` is 3, which 2 processes cannot divide; make it a multiple of `processes`";
    assert_eq!(refusal("cpus = 2\ngpus = 3\nprocesses = 2"), uneven);
    let of_arm = refusal("cpus = 2\narms = [{ name = \"a\", processes = 3 }]");
    assert_eq!(
        of_arm,
        "arm `a`: `cpus` is 2, which 3 processes cannot divide; make it a multiple of `processes`"
    );
    assert_eq!(refusal("processes = 0"), "`processes` is 0; it must be from 1 to 65535");
}

#[test]
fn a_grid_makes_every_combination_of_every_named_arm() {
    let text = r#"
        arms = [{ name = "isr" }, { name = "simpo", set = { "objective" = { type = "simpo" } } }]
        [grid]
        "objective.beta" = [0.1, 0.2]
        "train.epochs" = [1, 2]
    "#;
    let arms = arms(text).unwrap();
    assert_eq!(arms.len(), 8);
    assert_eq!(arms[0].name, "isr,beta=0.1,epochs=1");
    assert_eq!(arms[7].name, "simpo,beta=0.2,epochs=2");
    let paths: Vec<_> = arms[7].set.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["objective", "objective.beta", "train.epochs"]);
}

#[test]
fn values_that_cannot_stand_in_a_name_are_counted() {
    let grid = "[grid]\n\"judge.prompt\" = [\"is a better?\", \"is b better?\"]\n\
                \"judge\" = [{ type = \"self\" }, { type = \"random\" }]";
    assert_eq!(
        names(grid),
        ["judge=self,prompt=1", "judge=self,prompt=2", "judge=random,prompt=1", "judge=random,prompt=2"]
    );
    let same_end = "[grid]\n\"judge.type\" = [\"self\"]\n\"objective.type\" = [\"dpo\"]";
    assert_eq!(names(same_end), ["judge.type=self,objective.type=dpo"]);
}

#[test]
fn excluded_combinations_are_left_out() {
    let text = r#"
        [grid]
        "objective" = [{ type = "dpo" }, { type = "ipo" }]
        "objective.beta" = [0.1, 1]
        [[exclude]]
        "objective.type" = "ipo"
        "objective.beta" = 1.0
    "#;
    assert_eq!(names(text), ["objective=dpo,beta=0.1", "objective=dpo,beta=1", "objective=ipo,beta=0.1"]);
    let typo = refusal("[grid]\n\"train.epochs\" = [1]\n[[exclude]]\n\"train.epoch\" = 1");
    assert_eq!(typo, "`exclude` speaks of `train.epoch`, which no arm sets; correct or remove it");
    let all = refusal("[grid]\n\"train.epochs\" = [1]\n[[exclude]]\n\"train.epochs\" = 1");
    assert_eq!(all, "`exclude` leaves no arm; loosen it");
}

#[test]
fn draws_are_arms_too() {
    let text = r#"
        [quasi_random]
        draws = 10
        values = { "objective.beta" = { low = 0.01, high = 1.0, log = true }, "train.epochs" = [1, 2] }
    "#;
    let arms = arms(text).unwrap();
    assert_eq!((arms.len(), arms[0].name.as_str(), arms[9].name.as_str()), (10, "draw-01", "draw-10"));
    for arm in &arms {
        let beta = arm.set[0].1.as_float().unwrap();
        assert!((0.01..1.0).contains(&beta), "{beta}");
    }
    let wrong = text.replace("low = 0.01", "low = 0.0");
    assert_eq!(
        refusal(&wrong),
        "`quasi_random.values.\"objective.beta\"`: low is 0; with `log` it must be above 0"
    );
}

#[test]
fn a_sweep_has_a_bounded_number_of_runs() {
    let draws = "[random]\ndraws = 4000000000\nvalues = { \"train.epochs\" = [1, 2] }";
    assert!(refusal(draws).contains("`draws` is 4000000000; a sweep has at most 100000 runs"));
    // Each is small, and their product is not.
    let values = format!("{:?}", (1..=100).collect::<Vec<u32>>());
    let grid = format!(
        "[grid]\n\"train.epochs\" = {values}\n\"loop.samples\" = {values}\n\"loop.responses\" = {values}"
    );
    assert!(refusal(&grid).contains("give 1000000 arms or more; a sweep has at most 100000 runs"));
}

#[test]
fn what_cannot_be_a_sweep_says_why() {
    for (text, reason) in [
        ("baseline = \"x\"", "`baseline` is `x`, which is no arm; arms: base"),
        ("arms = [{ name = \"a\" }, { name = \"A\" }]", "two arms have the name `A`; rename one"),
        ("[grid]\nobjective.beta = [1]", "in quotes"),
        ("[grid]\n\"objective.beta\" = 1", "`grid.\"objective.beta\"`: give a list of values"),
        ("set = { seed = 3 }", "`seed` cannot be set; a sweep gives each run its own, of `seeds` and arms"),
        (
            "halving = { metric = \"m\", rungs = [2, 1] }",
            "`halving.rungs` must be iterations from 1, ascending",
        ),
        ("arms = [{ name = \"../a\" }]", "arm `../a`: a name is letters"),
        ("epochs = 3", "unknown field `epochs`"),
    ] {
        let said = refusal(text);
        assert!(said.contains(reason), "{text}: {said}");
    }
}

#[test]
fn bases_and_arms_that_would_be_confused_are_refused() {
    let bases = |text: &str| {
        refusal(&format!(
            "arms = [{{ name = 'a-b' }}, {{ name = 'a', set = {{ \"policy.model\" = 'm' }} }}]\n{text}"
        ))
    };
    assert_eq!(
        bases("bases = [{ name = 'x/y' }]"),
        "base `x/y`: a name is letters, digits, `.`, `_`, `-`, `=` and `,`, at most 120, and begins with one of the first two"
    );
    assert_eq!(
        bases("bases = [{ name = 'x' }, { name = 'X' }]"),
        "two bases have the name `X`; rename one"
    );
    assert_eq!(
        bases("bases = [{ name = 'x', set = { policy = { type = 'p' } } }]"),
        "arm `a` sets `policy.model`, and base `x` sets `policy`; leave it to one of them"
    );
    assert_eq!(
        bases("bases = [{ name = 'c' }, { name = 'b-c' }]"),
        "arm `a` with base `b-c` and arm `a-b` with base `c` would have one name; rename one"
    );
    assert_eq!(
        bases("bases = [{ name = 'x', set = { seed = 1 } }]"),
        "`seed` cannot be set; a sweep gives each run its own, of `seeds` and arms"
    );
}

#[test]
fn claims_that_nothing_could_decide_are_refused() {
    let claim = |text: &str| {
        format!(
            "[[claims]]\nname = 'c'\narm = 'a'\nagainst = 'b'\nmetric = 'm'\ndirection = 'higher'\n{text}\n"
        )
    };
    assert_eq!(
        refusal(&claim("")),
        "`claims` need an interval, and of one seed there is none; name two `seeds` or more, five for a study"
    );
    let two_bases = "bases = [{ name = 'x' }, { name = 'y' }]\n";
    assert!(arms(&format!("{two_bases}{}", claim(""))).is_ok());
    assert_eq!(
        refusal(&format!("{}{}", claim(""), claim(""))),
        "two claims are named \"c\"; reword or remove one"
    );
    assert_eq!(
        refusal(&claim("margin = 0.0")),
        "claim \"c\": `margin` is 0; it must be above 0, or left out"
    );
    assert_eq!(
        refusal(&claim("").replace("'c'", "' '")),
        "`name` of claim 1 is \" \"; write the claim as a sentence on one line"
    );
    assert!(refusal(&claim("").replace("higher", "better")).contains("unknown variant `better`"));
}
