//! Instruction template of the source `folder`.

use isr_api::video_key;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};

use crate::names::nearest;

/// Variables of the template.
const VARIABLES: [&str; 3] = ["name", "folder", "path"];

/// A validated template.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    source: String,
    environment: Environment<'static>,
}

impl Question {
    /// Validates a template: syntax and variables.
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let template = environment.template_from_str(source).map_err(|error| failed(&error))?;
        let used = template.undeclared_variables(false);
        let is_global = |name: &str| environment.globals().any(|(global, _)| global == name);
        let mut used: Vec<_> = used.into_iter().filter(|name| !is_global(name)).collect();
        used.sort();
        if let Some(wrong) = used.iter().find(|name| !VARIABLES.contains(&name.as_str())) {
            let known = "it may mention `name`, `folder` and `path`";
            return Err(match nearest(wrong, VARIABLES) {
                Some(near) => format!("question mentions `{wrong}`; did you mean `{near}`? {known}"),
                None => format!("question mentions `{wrong}`; {known}"),
            });
        }
        if source.trim().is_empty() {
            return Err("question is empty; it must ask something".to_owned());
        }
        Ok(Self { source: source.to_owned(), environment })
    }

    /// Renders the instruction for the video at a path relative to the folder.
    pub(crate) fn ask(&self, relative: &std::path::Path) -> Result<String, String> {
        let text = |part: Option<&std::path::Path>| video_key(part.unwrap_or("".as_ref()));
        let values = context! {
            name => text(relative.file_stem().map(AsRef::as_ref)),
            folder => text(relative.parent()),
            path => text(Some(relative)),
        };
        let rendered = self.environment.render_str(&self.source, values);
        rendered.map(|text| text.trim().to_owned()).map_err(|error| failed(&error))
    }
}

fn failed(error: &minijinja::Error) -> String {
    let kind = error.kind().to_string();
    let reason = error.detail().map_or_else(|| kind.clone(), |detail| format!("{kind}: {detail}"));
    format!("question does not render: {reason}")
}
