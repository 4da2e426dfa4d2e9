//! `wit/isr.wit` has the fields and names of `isr_api::messages`, but for those that it is known to lack.

use std::collections::BTreeSet;

use isr_api::messages::{
    DescribeMessage, FrameMessage, GenerateMessage, GranularityMessage, JudgeMessage, PartMessage,
    RequirementsMessage, ScoreMessage, TurnMessage, ValueMessage, VerdictMessage, VideoInfo, ViewMessage,
    VoteMessage, names,
};
use isr_api::{Continuation, FinishReason, Response, Role, Sampling, TokenLogProbs, View, VisualContext};
use wit_parser::{Interface, Resolve, TypeDefKind};

const WIT: &str = include_str!("../../wit/isr.wit");

struct Definition(Resolve);

impl Definition {
    fn parse() -> Self {
        let mut resolve = Resolve::default();
        resolve.push_str("isr.wit", WIT).unwrap();
        Self(resolve)
    }

    fn interface(&self, name: &str) -> &Interface {
        let mut all = self.0.interfaces.iter().map(|(_, interface)| interface);
        all.find(|interface| interface.name.as_deref() == Some(name)).unwrap()
    }

    /// The names of a record's fields, of an enum's or a variant's cases, or of a function's parameters.
    fn names(&self, path: &str) -> BTreeSet<String> {
        let (interface, name) = path.split_once('.').unwrap();
        let interface = self.interface(interface);
        let names: Vec<&String> = match interface.functions.get(name) {
            Some(function) => function.params.iter().map(|param| &param.name).collect(),
            None => match &self.0.types[interface.types[name]].kind {
                TypeDefKind::Record(record) => record.fields.iter().map(|field| &field.name).collect(),
                TypeDefKind::Enum(of) => of.cases.iter().map(|case| &case.name).collect(),
                TypeDefKind::Variant(variant) => variant.cases.iter().map(|case| &case.name).collect(),
                other => panic!("{path}: {other:?}"),
            },
        };
        names.into_iter().map(|name| name.replace('-', "_")).collect()
    }
}

#[test]
fn the_interface_has_the_names_of_the_messages() {
    let definition = Definition::parse();
    let views = View::ALL.map(View::name);
    // Name in the interface, names of the message, and those that the interface lacks.
    let all: [(&str, &[&str], &[&str]); 22] = [
        ("types.scene", names::<VideoInfo>(), &[]),
        // What reasons in a response is the policy's: components see the answer alone.
        ("types.response", names::<Response>(), &["policy", "reasoning"]),
        ("types.finish-reason", names::<FinishReason>(), &[]),
        ("types.visual-context", names::<VisualContext>(), &["video", "parent", "parent_of"]),
        ("host.role", names::<Role>(), &[]),
        ("host.part", names::<PartMessage<bool>>(), &["known"]),
        ("host.message", names::<TurnMessage<bool>>(), &[]),
        ("host.sampling", names::<Sampling>(), &[]),
        ("host.continuation", names::<Continuation>(), &[]),
        ("host.token-logprobs", names::<TokenLogProbs>(), &[]),
        ("host.generate", names::<GenerateMessage<bool>>(), &[]),
        ("host.score", names::<ScoreMessage<bool>>(), &[]),
        ("host.frame", names::<FrameMessage>(), &[]),
        ("judge.judge-case", names::<JudgeMessage<VideoInfo>>(), &[]),
        ("judge.vote", names::<VoteMessage>(), &[]),
        ("judge.verdict", names::<VerdictMessage>(), &[]),
        ("retrospector.retrospection-case", names::<DescribeMessage<VideoInfo>>(), &[]),
        // An enum cannot grow: `objective-by-name` has all views.
        ("objective.view", &views, &["chosen_corrupted", "mismatched"]),
        ("objective.granularity", names::<GranularityMessage>(), &[]),
        // A record cannot grow either: objectives see micro-batches.
        ("objective.requirements", names::<RequirementsMessage>(), &["per_token", "across_batch"]),
        ("objective.view-logprobs", names::<ViewMessage<Vec<f64>>>(), &[]),
        ("objective.objective-value", names::<ValueMessage>(), &[]),
    ];
    for (path, names, lacking) in all {
        let mut expected: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
        for name in lacking {
            assert!(expected.remove(*name), "{path}: the message has no `{name}` any more");
        }
        assert_eq!(definition.names(path), expected, "{path}");
        if let Some(name) = path.strip_prefix("objective.").filter(|name| *name != "view") {
            assert_eq!(definition.names(&format!("objective-by-name.{name}")), expected, "{path}");
        }
    }
}

#[test]
fn the_second_interface_documents_all_views() {
    let definition = Definition::parse();
    let interface = definition.interface("objective-by-name");
    let TypeDefKind::Record(record) = &definition.0.types[interface.types["requirements"]].kind else {
        panic!("a record");
    };
    let docs = record.fields[0].docs.contents.as_deref().unwrap();
    for view in View::ALL {
        assert!(docs.contains(&format!("`{}`", view.name())), "{docs}");
    }
}
