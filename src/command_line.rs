//! The command line for records, without the secrets that stand in it.

use toml::Value;

/// What stands where a secret stood.
const REDACTED: &str = "***";

/// Words of a key or flag that mark its value as a secret.
const SECRET_WORDS: [&str; 11] = [
    "key",
    "apikey",
    "token",
    "secret",
    "password",
    "passwd",
    "auth",
    "authorization",
    "credential",
    "credentials",
    "cookie",
];

/// Last words of keys that name where a secret is, and hold none.
const PLACE_WORDS: [&str; 5] = ["env", "variable", "file", "path", "dir"];

/// The words of a command line. Values of settings and flags whose name says that they are secrets become `***`, as
/// do user names and passwords in addresses.
pub(crate) fn redacted(words: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut next = Next::Word;
    let redact = |word: String| {
        let (shown, then) = match next {
            Next::Setting => (setting(&word), Next::Word),
            Next::Secret => (REDACTED.to_owned(), Next::Word),
            Next::Word => one(&word),
        };
        next = then;
        shown
    };
    words.into_iter().map(redact).collect()
}

/// What the next word is.
enum Next {
    Word,
    /// `KEY=VALUE` of `-s`.
    Setting,
    /// The value of a secret flag.
    Secret,
}

fn one(word: &str) -> (String, Next) {
    if word == "-s" || word == "--set" {
        return (word.to_owned(), Next::Setting);
    }
    if let Some(text) = word.strip_prefix("--set=") {
        return (format!("--set={}", setting(text)), Next::Word);
    }
    if let Some(flag) = word.strip_prefix("--") {
        return match flag.split_once('=') {
            Some((name, _)) if is_secret(name) => (format!("--{name}={REDACTED}"), Next::Word),
            None if is_secret(flag) => (word.to_owned(), Next::Secret),
            _ => (without_user(word), Next::Word),
        };
    }
    // `-sKEY=VALUE`, also behind other short flags (`-qs`).
    if let Some((flags, text)) = word.strip_prefix('-').and_then(|rest| rest.split_once('s'))
        && flags.chars().all(|flag| flag.is_ascii_lowercase())
    {
        return match text {
            "" => (word.to_owned(), Next::Setting),
            text => (format!("-{flags}s{}", setting(text.strip_prefix('=').unwrap_or(text))), Next::Word),
        };
    }
    (without_user(word), Next::Word)
}

/// `KEY=VALUE` without what is secret in it.
fn setting(text: &str) -> String {
    let Some((key, value)) = text.split_once('=') else { return text.to_owned() };
    if is_secret(key) && value.trim().parse::<f64>().is_err() {
        return format!("{key}={REDACTED}");
    }
    let parsed = toml::from_str::<toml::Table>(&format!("value = {value}")).ok();
    match parsed.and_then(|mut table| table.remove("value")) {
        Some(mut inner @ (Value::Table(_) | Value::Array(_))) => {
            let whole = inner.clone();
            redact_value(&mut inner);
            if inner == whole { text.to_owned() } else { format!("{key}={inner}") }
        }
        _ => format!("{key}={}", without_user(value)),
    }
}

fn redact_value(value: &mut Value) {
    match value {
        Value::Table(table) => {
            for (key, value) in table.iter_mut() {
                match value {
                    Value::String(text) if is_secret(key) => REDACTED.clone_into(text),
                    other => redact_value(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact_value),
        Value::String(text) => *text = without_user(text),
        _ => {}
    }
}

/// Whether the last part of a key path, or a flag, names a secret: `judge.api_key`, `headers.Authorization`.
fn is_secret(path: &str) -> bool {
    let last = path.trim().rsplit('.').next().unwrap_or(path).to_lowercase();
    let words: Vec<&str> =
        last.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let names_place = words.last().is_some_and(|last| PLACE_WORDS.contains(last));
    !names_place && words.iter().any(|word| SECRET_WORDS.contains(word))
}

/// An address without user name and password: `https://***@host/`, and without secrets among its parameters.
fn without_user(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host.to_owned(), |(_, host)| format!("{REDACTED}@{host}"));
    let Some((path, query)) = path.split_once('?') else { return format!("{scheme}://{host}{path}") };
    let parameter = |parameter: &str| match parameter.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={REDACTED}"),
        _ => parameter.to_owned(),
    };
    let query = query.split('&').map(parameter).collect::<Vec<_>>().join("&");
    format!("{scheme}://{host}{path}?{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        redacted(text.split(' ').map(str::to_owned)).join(" ")
    }

    #[test]
    fn secrets_are_not_recorded() {
        for (given, recorded) in [
            ("isr run a.toml -s judge.api_key=sk-1", "isr run a.toml -s judge.api_key=***"),
            ("isr run a.toml --set judge.api_key=sk-1 -q", "isr run a.toml --set judge.api_key=*** -q"),
            (
                "isr run a.toml --set=judge.headers.Authorization=x",
                "isr run a.toml --set=judge.headers.Authorization=***",
            ),
            ("isr run a.toml -sjudge.token=abc", "isr run a.toml -sjudge.token=***"),
            ("isr run a.toml -qs judge.token=abc", "isr run a.toml -qs judge.token=***"),
            ("isr serve --api-key sk-1 --port 1", "isr serve --api-key *** --port 1"),
            ("isr serve --api-key=sk-1", "isr serve --api-key=***"),
            (
                "isr run a.toml -s judge.url=https://me:pw@host/v1",
                "isr run a.toml -s judge.url=https://***@host/v1",
            ),
            ("isr run https://host/a?api-key=sk&n=1", "isr run https://host/a?api-key=***&n=1"),
        ] {
            assert_eq!(line(given), recorded);
        }
    }

    #[test]
    fn secrets_within_tables_are_not_recorded() {
        // The order of the keys is that of the TOML library.
        let said = line("isr run a.toml -s judge={type=\"http\",headers={\"X-Api-Key\"=\"sk-1\"}}");
        assert!(said.contains("X-Api-Key = \"***\"") && said.contains("type = \"http\""), "{said}");
        assert!(!said.contains("sk-1"), "{said}");
    }

    #[test]
    fn everything_else_is_recorded_word_by_word() {
        for text in [
            "isr run configs/quickstart.toml --out runs/a -q",
            "isr run a.toml -s loop.sampling.max_new_tokens=64 -s judge.api_key_env=OPENAI_API_KEY",
            "isr run a.toml -s judge={type=\"self\"} -s loop.iterations=3 --stage-cache shared",
            "isr run a.toml -s judge.url=https://host/v1?n=1 -s name=a -v",
            "isr run a.toml -s train.token=3",
        ] {
            assert_eq!(line(text), text);
        }
    }
}
