//! `isr plugins new`: a project to begin with.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use isr_api::Kind;

use super::failure::Unusable;
use super::output::print_line;
use super::plugins::parse_kind;

/// Make a project for a plugin: one that builds, tests itself and runs
#[derive(Args)]
pub(super) struct NewArgs {
    /// What it is: judge or objective; in Python also policy, encoder, evaluator, observer, data or preferences
    #[arg(long, value_parser = parse_one)]
    kind: Kind,
    /// What it is written in
    #[arg(long)]
    lang: Language,
    /// Its name, and that of its folder: letters in lower case, digits and `_`
    name: String,
    /// A checkout of isr-dpo, where the SDK is [default: that which this program was built from]
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Language {
    Rust,
    Python,
    /// C, compiled to WebAssembly
    Wasm,
}

impl Language {
    /// The plugin's file in a project.
    fn file(self, name: &str) -> String {
        match self {
            Self::Rust => format!("target/release/{DLL_PREFIX}{name}{DLL_SUFFIX}"),
            Self::Python => format!("{name}.py"),
            Self::Wasm => format!("{name}.wasm"),
        }
    }

    /// How it is tested and built.
    fn build(self, name: &str) -> String {
        match self {
            Self::Rust => {
                "cargo test                # the contract of its kind\n  cargo build --release".to_owned()
            }
            Self::Python => format!("# edit {name}.py; then, as often as you like:"),
            Self::Wasm => format!(
                "clang --target=wasm32 -O2 -nostdlib -Wl,--no-entry -o {name}.wasm {name}.c\n  \
                 # or, after `pip install ziglang`: python3 -m ziglang cc --target=wasm32-freestanding ..."
            ),
        }
    }
}

/// A project that is made from an example of this repository, by renaming it.
struct Template {
    kind: Kind,
    language: Language,
    /// Path and text.
    files: &'static [(&'static str, &'static str)],
    /// Name of the component, that of its types, and that of its package.
    renamed: [&'static str; 3],
}

macro_rules! example {
    ($name:literal, $($file:literal),+) => {
        &[$(($file, include_str!(concat!("../../examples/plugins/", $name, "/", $file)))),+]
    };
}

const TEMPLATES: [Template; 11] = [
    Template {
        kind: Kind::Judge,
        language: Language::Rust,
        files: example!("judge-rust", "Cargo.toml", "Cargo.lock", "src/lib.rs", "tests/contract.rs"),
        renamed: ["terse", "Terse", "judge-rust"],
    },
    Template {
        kind: Kind::Objective,
        language: Language::Rust,
        files: example!("objective-rust", "Cargo.toml", "Cargo.lock", "src/lib.rs", "tests/contract.rs"),
        renamed: ["squared_hinge", "SquaredHinge", "objective-rust"],
    },
    Template {
        kind: Kind::Judge,
        language: Language::Python,
        files: example!("judge-python", "evidence.py"),
        renamed: ["evidence", "Evidence", "judge-python"],
    },
    Template {
        kind: Kind::Objective,
        language: Language::Python,
        files: example!("objective-python", "soft_margin.py"),
        renamed: ["soft_margin", "SoftMargin", "objective-python"],
    },
    Template {
        kind: Kind::Evaluator,
        language: Language::Python,
        files: example!("evaluator-python", "mentioned_words.py", "test_mentioned_words.py"),
        renamed: ["mentioned_words", "MentionedWords", "evaluator-python"],
    },
    Template {
        kind: Kind::Observer,
        language: Language::Python,
        files: example!("observer-python", "timeline.py", "test_timeline.py"),
        renamed: ["timeline", "Timeline", "observer-python"],
    },
    Template {
        kind: Kind::Data,
        language: Language::Python,
        files: example!("data-python", "coloured_squares.py", "test_coloured_squares.py"),
        renamed: ["coloured_squares", "ColouredSquares", "data-python"],
    },
    Template {
        kind: Kind::Preferences,
        language: Language::Python,
        files: example!("preferences-python", "by_stars.py", "test_by_stars.py", "by_stars.csv"),
        renamed: ["by_stars", "ByStars", "preferences-python"],
    },
    Template {
        kind: Kind::Policy,
        language: Language::Python,
        files: example!("policy-python", "colour_words.py", "test_colour_words.py"),
        renamed: ["colour_words", "ColourWords", "policy-python"],
    },
    Template {
        kind: Kind::Encoder,
        language: Language::Python,
        files: example!("encoder-python", "mean_colour.py", "test_mean_colour.py"),
        renamed: ["mean_colour", "MeanColour", "encoder-python"],
    },
    Template {
        kind: Kind::Judge,
        language: Language::Wasm,
        files: example!("judge-wasm", "near_length.c", "isr_plugin.h"),
        renamed: ["near_length", "NearLength", "judge-wasm"],
    },
];

impl NewArgs {
    pub(super) fn execute(&self) -> Result<()> {
        let Some(template) = TEMPLATES.iter().find(|it| it.kind == self.kind && it.language == self.lang)
        else {
            let known = TEMPLATES.iter().filter(|it| it.language == self.lang).map(|it| it.kind.section());
            let known = known.collect::<Vec<_>>().join(", ");
            return Err(unusable(
                format!("there is no template of a {} in this language", self.kind.section()),
                format!("there are: {known}"),
            ));
        };
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !self.name.starts_with(|c: char| c.is_ascii_lowercase()) || !self.name.chars().all(allowed) {
            let hint = "a name is of letters in lower case, digits and `_`, and begins with a letter";
            return Err(unusable(format!("`{}` is no name for a plugin", self.name), hint.to_owned()));
        }
        let folder = PathBuf::from(&self.name);
        if folder.exists() {
            let hint = "choose another name, or remove it".to_owned();
            return Err(unusable(format!("{} exists", folder.display()), hint));
        }
        let sdk = self.sdk()?;
        for (path, text) in template.files {
            let path = path.replace(template.renamed[0], &self.name);
            write(&folder.join(path), &self.renamed(template, &sdk, text))?;
        }
        write(&folder.join("run.toml"), &self.config(&sdk))?;
        write(&folder.join(".gitignore"), "/target/\n*.wasm\n__pycache__/\n")?;
        print_line(format_args!("{}", self.next_steps()))
    }

    /// The checkout, absolute.
    fn sdk(&self) -> Result<PathBuf> {
        let sdk = self.sdk.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        if !sdk.join("core/sdk/Cargo.toml").is_file() {
            let hint = "name a checkout of isr-dpo with --sdk DIR".to_owned();
            return Err(unusable(format!("{} is no checkout of isr-dpo", sdk.display()), hint));
        }
        Ok(std::path::absolute(sdk)?)
    }

    fn renamed(&self, template: &Template, sdk: &Path, text: &str) -> String {
        let [component, types, package] = template.renamed;
        let own: String = self.name.split('_').map(capitalised).collect();
        text.replace("../../..", &sdk.to_string_lossy())
            .replace(package, &self.name)
            .replace(&package.replace('-', "_"), &self.name)
            .replace(component, &self.name)
            .replace(types, &own)
    }

    /// A run that uses it.
    fn config(&self, sdk: &Path) -> String {
        let (name, section) = (&self.name, self.kind.section());
        let file = self.lang.file(name);
        let (base, header) = match self.kind {
            Kind::Preferences => ("configs/dpo.toml", format!("[{section}]")),
            // Of observers there may be several.
            Kind::Observer => ("configs/quickstart.toml", format!("[[{section}]]")),
            // The miniature's reference answers judge: a policy to begin with is no judge of itself.
            Kind::Policy => (
                "configs/quickstart.toml",
                format!(
                    "encoder = \"none\"\nretrospector = \"none\"\n\n[judge]\ntype = \"reference\"\noracle = \
                     true\n\n[{section}]"
                ),
            ),
            // Features of a torch policy are those of its own tower.
            Kind::Encoder => (
                "configs/quickstart.toml",
                format!("# With a policy that takes these features; see `[policy]`.\n[{section}]"),
            ),
            _ => ("configs/quickstart.toml", format!("[{section}]")),
        };
        let base = sdk.join(base);
        format!(
            "extends = {base:?}\nname = \"{name}\"\nplugins = [{file:?}]\n\n\
             {header}\ntype = \"{name}\"\n"
        )
    }

    fn next_steps(&self) -> String {
        let (name, file, build) = (&self.name, self.lang.file(&self.name), self.lang.build(&self.name));
        let command = if self.kind == Kind::Preferences { "dpo" } else { "run" };
        format!(
            "made {name}; next:\n  cd {name}\n  {build}\n  isr plugins check {file}\n  isr config check run.toml\n  \
             isr {command} run.toml          # from the folder whose data and model it names"
        )
    }
}

/// A kind by its section, or in the singular: `observer` of `observers`.
fn parse_one(text: &str) -> Result<Kind, String> {
    if text == "observer" { Ok(Kind::Observer) } else { parse_kind(text) }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn unusable(message: String, hint: String) -> anyhow::Error {
    Unusable { message, hint: Some(hint) }.into()
}
