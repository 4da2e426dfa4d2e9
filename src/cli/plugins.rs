//! `isr plugins`: what a config can name.

use anyhow::Result;
use clap::{Args, Subcommand};
use isr_dpo::registry::{Entry, Kind, entries};
use serde_json::{Value, json};

use super::describe;
use super::failure::Unusable;
use super::output::{print, print_line};

/// List and explain what a config can name
#[derive(Args)]
pub(super) struct PluginsArgs {
    #[command(subcommand)]
    command: PluginsCommand,
}

#[derive(Subcommand)]
enum PluginsCommand {
    List(ListArgs),
    Describe(DescribeArgs),
}

/// List the components
#[derive(Args)]
struct ListArgs {
    /// Only this kind: the section of a config that chooses one
    #[arg(long, value_parser = parse_kind)]
    kind: Option<Kind>,
    /// Print a JSON list of objects with `kind`, `name` and `help`
    #[arg(long)]
    json: bool,
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
}

impl PluginsArgs {
    pub(super) fn execute(&self) -> Result<()> {
        match &self.command {
            PluginsCommand::List(args) => args.execute()?,
            PluginsCommand::Describe(args) => args.execute()?,
        }
        Ok(())
    }
}

impl ListArgs {
    fn execute(&self) -> Result<()> {
        let wanted = |entry: &&Entry| self.kind.is_none_or(|kind| entry.kind == kind);
        let found: Vec<_> = entries().into_iter().filter(wanted).collect();
        if self.json {
            let object = |entry: &&Entry| json!({ "kind": entry.kind.section(), "name": entry.name, "help": entry.help() });
            return print_line(format_args!("{:#}", Value::from_iter(found.iter().map(object))));
        }
        let width = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
        let kind_width = width(&mut found.iter().map(|entry| entry.kind.section().len()));
        let name_width = width(&mut found.iter().map(|entry| entry.name.len()));
        for entry in found {
            let (kind, name) = (entry.kind.section(), entry.name);
            print_line(format_args!("{kind:kind_width$}  {name:name_width$}  {}", entry.help()))?;
        }
        Ok(())
    }
}

impl DescribeArgs {
    fn execute(&self) -> Result<()> {
        let entry = self.find()?;
        if !self.json {
            return print(describe::text(entry));
        }
        let object = json!({
            "kind": entry.kind.section(),
            "name": entry.name,
            "description": entry.description(),
            "example": entry.example,
            "schema": (entry.schema)(),
        });
        print_line(format_args!("{object:#}"))
    }

    fn find(&self) -> Result<&'static Entry, Unusable> {
        let (kind, name) = match &self.name {
            Some(name) => (Some(parse_kind(&self.kind).map_err(unusable)?), name),
            None => (None, &self.kind),
        };
        let of_kind = |entry: &&Entry| kind.is_none_or(|kind| entry.kind == kind);
        let candidates: Vec<_> = entries().into_iter().filter(of_kind).collect();
        let mut named = candidates.iter().filter(|entry| entry.name == name);
        match (named.next(), named.next()) {
            (Some(entry), None) => Ok(entry),
            (Some(_), Some(_)) => Err(ambiguous(name)),
            (None, _) => Err(unknown(kind, name, &candidates)),
        }
    }
}

fn ambiguous(name: &str) -> Unusable {
    let all = entries().into_iter().filter(|entry| entry.name == name);
    let kinds: Vec<_> = all.map(|entry| entry.kind.section()).collect();
    Unusable {
        message: format!("`{name}` is the name of several components: {}", kinds.join(", ")),
        hint: Some(format!("give the kind too: `isr plugins describe {} {name}`", kinds[0])),
    }
}

fn unknown(kind: Option<Kind>, name: &str, known: &[&Entry]) -> Unusable {
    let of = kind.map(|kind| format!(" of kind `{}`", kind.section())).unwrap_or_default();
    let hint = match nearest(name, known.iter().map(|entry| entry.name)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`isr plugins list` lists all".to_owned(),
    };
    Unusable { message: format!("there is no component `{name}`{of}"), hint: Some(hint) }
}

fn parse_kind(text: &str) -> Result<Kind, String> {
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
