//! What the guides show is what the program takes: configs are checked, command lines are parsed.

use std::fs;
use std::path::{Path, PathBuf};

use isr_dpo::config::{Loader, RunConfig};
use isr_dpo::plugin::PluginFile;
use isr_dpo::{AuditConfig, DpoRunConfig, SftConfig};
use toml::{Table, Value};

use crate::support::isr;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README and guides, by name.
fn guides() -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == "md"));
    paths.push(root().join("README.md"));
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The blocks of a language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let begin = format!("```{language}\n");
    text.split(&begin).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

/// Why the program would not take a block as a part of one of its files.
fn refusal(block: &str) -> Option<String> {
    let mut table: Table = match block.parse() {
        Ok(table) => table,
        Err(error) => return Some(error.to_string()),
    };
    if table.contains_key("dependencies") {
        return None;
    }
    let is_sweep =
        ["seeds", "arms", "grid", "halving", "scheduler"].iter().any(|key| table.contains_key(*key));
    if is_sweep { sweep_refusal(table) } else { config_refusal(&mut table) }
}

fn sweep_refusal(mut table: Table) -> Option<String> {
    let needed: Table = "extends = 'base.toml'\nseeds = [1]\n".parse().unwrap();
    for (key, value) in needed {
        table.entry(key).or_insert(value);
    }
    if !table.contains_key("arms") {
        table.insert("arms".to_owned(), "a = [{ name = 'isr' }]".parse::<Table>().unwrap()["a"].clone());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.toml");
    fs::write(&path, table.to_string()).unwrap();
    isr_sweep::SweepFile::read(&path).err().map(|error| error.to_string())
}

fn config_refusal(table: &mut Table) -> Option<String> {
    if let Some(plugins) = table.remove("plugins") {
        if let Err(error) = plugins.try_into::<Vec<PluginFile>>() {
            return Some(error.to_string());
        }
        // What its plugins give is checked with them.
        let known = |section: &Value| {
            !matches!(
                section.get("type").and_then(Value::as_str),
                Some("brevity" | "transformers" | "words")
            )
        };
        table.retain(|_, section| known(section));
    }
    table.remove("extends");
    let with = |loader: Loader| loader.text("block", table.to_string(), root());
    let run = Loader::new().file(root().join("configs/quickstart.toml"));
    let refused = with(run).load::<RunConfig>().err()?;
    let others = [
        with(Loader::new().file(root().join("configs/base-1.toml"))).load::<SftConfig>().err(),
        with(Loader::new().file(root().join("configs/dpo.toml"))).load::<DpoRunConfig>().err(),
        with(Loader::new()).load::<AuditConfig>().err(),
    ];
    // Data are the reader's own.
    let is_of_data = |refused: &isr_dpo::Error| refused.to_string().ends_with("which does not exist");
    if is_of_data(&refused) || others.iter().flatten().any(is_of_data) {
        return None;
    }
    others.iter().all(Option::is_some).then(|| refused.to_string())
}

#[test]
fn every_config_of_the_guides_is_one_that_the_program_takes() {
    let mut count = 0;
    for (guide, text) in guides() {
        for block in blocks(&text, "toml") {
            count += 1;
            let refused = refusal(block);
            assert!(refused.is_none(), "{guide}: {}\n{block}", refused.unwrap_or_default());
        }
    }
    assert!(count > 20, "{count}");
    assert!(refusal("[judge]\ntype = \"selff\"").is_some_and(|said| said.contains("did you mean `self`?")));
    assert!(refusal("[halving]\nmetrics = 1").is_some());
}

/// The command lines of a guide: lines of its blocks, and inline code.
fn command_lines(text: &str) -> Vec<String> {
    let shown = blocks(text, "sh").into_iter().chain(blocks(text, "text"));
    let lines = shown.flat_map(str::lines).map(|line| line.split(" #").next().unwrap_or_default());
    // Without blocks, code stands between back quotes.
    let prose: String = text.split("```").step_by(2).collect();
    let joined = prose.replace('\n', " ");
    let inline = joined.split('`').skip(1).step_by(2);
    let all = lines.chain(inline).map(str::trim).filter(|line| line.starts_with("isr "));
    all.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The lines that a line stands for: options in brackets are given, and of `a|b` each is.
fn meant(line: &str) -> Vec<String> {
    let plain = line.replace(['[', ']'], " ").replace("...", " ");
    let mut all = vec![String::new()];
    for word in plain.split_whitespace() {
        let words: Vec<&str> = word.split('|').collect();
        // A number stands for a number.
        let words = words.iter().map(|word| if matches!(*word, "N" | "SECONDS") { "1" } else { word });
        let words: Vec<&str> = words.collect();
        all = all
            .iter()
            .flat_map(|before| words.iter().map(move |word| format!("{before} {word}")))
            .collect();
    }
    all
}

#[test]
fn every_command_line_of_the_guides_is_one_that_the_program_parses() {
    let mut lines: Vec<String> =
        guides().iter().flat_map(|(_, text)| command_lines(text)).flat_map(|line| meant(&line)).collect();
    lines.sort();
    lines.dedup();
    assert!(lines.len() > 40, "{lines:#?}");
    for line in lines {
        // Help is asked for last, so that all before it is parsed and nothing is done.
        let words = line.split_whitespace().skip(1).chain(["--help"]);
        let said = isr(root(), words);
        assert_eq!(said.code, Some(0), "{line}: {}", said.stderr);
    }
}

#[test]
fn the_readme_names_every_guide() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for (guide, _) in guides().into_iter().filter(|(guide, _)| guide != "README.md") {
        assert!(readme.contains(&format!("(docs/{guide})")), "{guide}");
    }
}

/// A table of a guide stands between two comments, the first of which has the command that writes it.
const TABLE: (&str, &str) = ("<!-- isr ", "<!-- end of table -->");

/// A guide with its tables written anew, and their number.
fn with_tables(text: &str) -> (String, usize) {
    let mut parts = text.split(TABLE.0);
    let (mut written, mut count) = (parts.next().unwrap().to_owned(), 0);
    for part in parts {
        let (line, rest) = part.split_once(" -->\n").expect("the command's comment ends its line");
        let (_, after) = rest.split_once(TABLE.1).expect("a table ends with its comment");
        let table = isr(root(), line.split_whitespace()).result();
        written.push_str(&format!("{}{line} -->\n\n{}\n\n{}{after}", TABLE.0, table.trim(), TABLE.1));
        count += 1;
    }
    (written, count)
}

/// `UPDATE_TABLES=1` writes them.
#[test]
fn the_tables_of_the_guides_are_those_of_the_results_beside_them() {
    let mut count = 0;
    for (guide, text) in guides() {
        let (written, tables) = with_tables(&text);
        count += tables;
        if std::env::var_os("UPDATE_TABLES").is_some() && tables > 0 {
            fs::write(root().join("docs").join(&guide), written).unwrap();
        } else {
            assert!(
                written == text,
                "{guide}: UPDATE_TABLES=1 cargo test --test cli the_tables_of writes its tables"
            );
        }
    }
    assert!(count > 0, "no guide has a table");
}
