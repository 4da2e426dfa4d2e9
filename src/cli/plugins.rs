//! `isr plugins`: what a config can name.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use isr_api::{Kind, Manifest};
use isr_config::Loader;
use isr_config::plugin::{PluginFile, Plugins};
use isr_config::registry::entries;
use serde_json::{Value, json};

use super::describe;
use super::failure::Unusable;
use super::output::{print, print_line};
use super::plugin_check::CheckArgs;
#[cfg(feature = "native")]
use super::plugin_host::HostArgs;
use super::plugin_new::NewArgs;
use super::session::Session;

/// List and explain what a config can name; write and check plugins
#[derive(Args)]
pub(super) struct PluginsArgs {
    #[command(subcommand)]
    command: PluginsCommand,
}

#[derive(Subcommand)]
enum PluginsCommand {
    List(ListArgs),
    Describe(DescribeArgs),
    Check(CheckArgs),
    New(NewArgs),
    #[cfg(feature = "native")]
    #[command(hide = true)]
    Host(HostArgs),
}

/// Plugins that are not built in.
#[derive(Args)]
struct Outside {
    /// A plugin file, or its name in a folder of ISR_PLUGIN_PATH; may be given again
    #[arg(long, value_name = "PATH")]
    plugins: Vec<PathBuf>,
    /// A config file, whose `plugins` are taken
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// List the components
#[derive(Args)]
struct ListArgs {
    /// Only this kind: the section of a config that chooses one
    #[arg(long, value_parser = parse_kind)]
    kind: Option<Kind>,
    /// Print a JSON list of objects with `kind`, `name` and `help`, and of plugins `version` and `file`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    outside: Outside,
}

/// Explain a component: what it does, its keys, an example
#[derive(Args)]
struct DescribeArgs {
    /// The kind; or the name, where one kind alone has it
    kind: String,
    /// The name
    name: Option<String>,
    /// Print a JSON object with `kind`, `name`, `description`, `example` (TOML) and `schema` (JSON schema)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    outside: Outside,
}

impl PluginsArgs {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        match &self.command {
            PluginsCommand::List(args) => args.execute()?,
            PluginsCommand::Describe(args) => args.execute()?,
            PluginsCommand::Check(args) => args.execute(session)?,
            PluginsCommand::New(args) => args.execute()?,
            #[cfg(feature = "native")]
            PluginsCommand::Host(args) => args.execute()?,
        }
        Ok(())
    }
}

/// A component, and the file that it comes from if it is not built in.
struct Known {
    component: Manifest,
    file: Option<PathBuf>,
}

impl Outside {
    /// All components: the built-in ones, then those of plugins.
    fn components(&self) -> Result<Vec<Known>> {
        let built_in = entries().into_iter();
        let mut known: Vec<_> =
            built_in.map(|entry| Known { component: entry.into(), file: None }).collect();
        for (component, loaded) in self.load()?.components() {
            known.push(Known { component: component.clone(), file: Some(loaded.path.clone()) });
        }
        Ok(known)
    }

    fn load(&self) -> Result<Plugins> {
        let loader = match &self.config {
            Some(config) => Loader::new().file(config),
            None => Loader::new(),
        };
        let named = loader.environment().plugins()?;
        if self.plugins.is_empty() {
            return Ok(named);
        }
        let named = named.files().iter().map(|loaded| loaded.entry.clone());
        let files: Vec<_> = named.chain(self.plugins.iter().map(PluginFile::new)).collect();
        Ok(Plugins::load(&files, &Plugins::folders())?)
    }
}

impl ListArgs {
    fn execute(&self) -> Result<()> {
        let mut found = self.outside.components()?;
        found.retain(|known| self.kind.is_none_or(|kind| known.component.kind == kind));
        if self.json {
            return print_line(format_args!("{:#}", Value::from_iter(found.iter().map(listed))));
        }
        let width = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
        let kind_width = width(&mut found.iter().map(|it| it.component.kind.section().len()));
        let name_width = width(&mut found.iter().map(|it| it.component.name.len()));
        for Known { component, file } in found {
            let (kind, name) = (component.kind.section(), &component.name);
            let from = file.map(|file| format!(" ({})", file.display())).unwrap_or_default();
            let help = component.summary();
            print_line(format_args!("{kind:kind_width$}  {name:name_width$}  {help}{from}"))?;
        }
        Ok(())
    }
}

fn listed(Known { component, file }: &Known) -> Value {
    let Manifest { kind, name, version, .. } = component;
    let mut object = json!({ "kind": kind, "name": name, "help": component.summary() });
    if let Some(file) = file {
        object["version"] = version.as_str().into();
        object["file"] = file.to_string_lossy().into();
    }
    object
}

impl DescribeArgs {
    fn execute(&self) -> Result<()> {
        let known = self.outside.components()?;
        let component = self.find(&known)?;
        if !self.json {
            return print(describe::text(component));
        }
        let Manifest { kind, name, help, example, schema, .. } = component;
        let object = json!({
            "kind": kind,
            "name": name,
            "description": help,
            "example": example,
            "schema": schema,
        });
        print_line(format_args!("{object:#}"))
    }

    fn find<'k>(&self, known: &'k [Known]) -> Result<&'k Manifest, Unusable> {
        let (kind, name) = match &self.name {
            Some(name) => (Some(parse_kind(&self.kind).map_err(unusable)?), name),
            None => (None, &self.kind),
        };
        let all = known.iter().map(|known| &known.component);
        let candidates: Vec<_> = all.filter(|it| kind.is_none_or(|kind| it.kind == kind)).collect();
        let named: Vec<_> = candidates.iter().copied().filter(|it| it.name == *name).collect();
        match named[..] {
            [one] => Ok(one),
            [] => Err(unknown(kind, name, &candidates)),
            _ => Err(ambiguous(name, &named)),
        }
    }
}

fn ambiguous(name: &str, all: &[&Manifest]) -> Unusable {
    let kinds: Vec<_> = all.iter().map(|it| it.kind.section()).collect();
    Unusable {
        message: format!("`{name}` is the name of several components: {}", kinds.join(", ")),
        hint: Some(format!("give the kind too: `isr plugins describe {} {name}`", kinds[0])),
    }
}

fn unknown(kind: Option<Kind>, name: &str, known: &[&Manifest]) -> Unusable {
    let of = kind.map(|kind| format!(" of kind `{}`", kind.section())).unwrap_or_default();
    let hint = match nearest(name, known.iter().map(|it| it.name.as_str())) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`isr plugins list` lists all".to_owned(),
    };
    Unusable { message: format!("there is no component `{name}`{of}"), hint: Some(hint) }
}

pub(super) fn parse_kind(text: &str) -> Result<Kind, String> {
    let sections = Kind::ALL.map(Kind::section);
    Kind::ALL.into_iter().find(|kind| kind.section() == text).ok_or_else(|| {
        let near = nearest(text, sections).map(|near| format!("did you mean `{near}`? "));
        format!("there is no kind `{text}`; {}kinds are {}", near.unwrap_or_default(), sections.join(", "))
    })
}

fn unusable(message: String) -> Unusable {
    Unusable { message, hint: None }
}

fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|it| (strsim::jaro_winkler(word, it), it));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, it)| it)
}
