//! Checks of `oneOf` and `anyOf`: values of one of several forms.

use config::{Map, Value, ValueKind};
use serde_json::Value as Json;

use super::schema_view::{Tagged, literals, types};
use super::{Checker, has_type, problems};
use crate::{diagnostics, plugin};

impl<'s> Checker<'s> {
    /// Selects the form by null, by enumerated strings, by tag, or else by the fewest problems.
    pub(super) fn choice(
        &mut self,
        at: &str,
        value: &Value,
        schema: &'s Json,
        options: &[&'s Json],
    ) -> Json {
        let forms: Vec<&'s Json> =
            options.iter().copied().filter(|option| types(option) != ["null"]).collect();
        let nullable = forms.len() < options.len();
        if nullable && problems::is_none(value) && !forms.iter().any(|form| self.reads_none(form)) {
            return Json::Null;
        }
        if let [only] = forms[..] {
            return self.value(at, value, only);
        }
        let listed: Option<Vec<Vec<&str>>> = forms.iter().map(|form| literals(form)).collect();
        if let Some(listed) = listed {
            return self.literal(at, value, &listed.concat());
        }
        match Tagged::of(schema, &forms) {
            Some(tagged) => self.tagged(at, value, &tagged),
            None => self.best(at, value, &forms),
        }
    }

    /// Whether this form accepts the string "none" as a value.
    fn reads_none(&self, form: &'s Json) -> bool {
        match (literals(form), self.view.options(form)) {
            (Some(listed), _) => listed.contains(&"none"),
            (None, Some(options)) => options.iter().any(|option| self.reads_none(option)),
            (None, None) => types(form).contains(&"string"),
        }
    }

    pub(super) fn literal(&mut self, at: &str, value: &Value, allowed: &[&str]) -> Json {
        match &value.kind {
            ValueKind::String(text) if allowed.contains(&text.as_str()) => text.as_str().into(),
            ValueKind::String(text) => {
                let hint = diagnostics::hint(text, allowed);
                self.problem(at, value, &format!("is {text:?}, which is not among its values{hint}"))
            }
            _ => self.mismatch(at, value, &format!("one of {}", diagnostics::listed(allowed))),
        }
    }

    fn tagged(&mut self, at: &str, value: &Value, choice: &Tagged<'s>) -> Json {
        let tag = choice.tag;
        let ValueKind::Table(table) = &value.kind else {
            return self.mismatch(at, value, &format!("a table with the key `{tag}`"));
        };
        let known = diagnostics::listed(&choice.names());
        match table.get(tag) {
            None => self.problem(at, value, &format!("has no `{tag}`; known: {known}")),
            Some(named) => match &named.kind {
                ValueKind::String(name) => self.variant(at, table, choice, (name, named)),
                _ => self.mismatch(&diagnostics::join(at, tag), named, &format!("one of {known}")),
            },
        }
    }

    fn variant(
        &mut self,
        at: &str,
        table: &Map<String, Value>,
        choice: &Tagged<'s>,
        (name, named): (&str, &Value),
    ) -> Json {
        if let Some((_, schema)) = choice.variants.iter().find(|(known, _)| *known == name) {
            let section = self.table(at, table, schema);
            let of_plugin = schema.get(plugin::MARK).is_some();
            return if of_plugin { plugin::tag(section, name) } else { section };
        }
        let noun = choice.title.or(at.rsplit('.').next()).unwrap_or(at);
        let place = if noun == at { String::new() } else { format!(" at `{at}`") };
        if self.has_plugins_left_out && choice.is_component() {
            self.unchecked.push(format!("{noun} `{name}`{place}"));
            return Json::Null;
        }
        let origin = problems::origin(named);
        let hint = diagnostics::hint_and_list(name, &choice.names());
        self.problems.push(format!("unknown {noun} `{name}`{place}{origin}{hint}"));
        Json::Null
    }

    /// Type names of a form, those of its alternatives and literals included; empty if any type is allowed.
    fn all_types(&self, form: &'s Json) -> Vec<&'s str> {
        match (types(form), self.view.options(form)) {
            (own, None) if own.is_empty() && literals(form).is_some() => vec!["string"],
            (own, Some(options)) if own.is_empty() => {
                options.into_iter().flat_map(|option| self.all_types(self.view.resolve(option))).collect()
            }
            (own, _) => own,
        }
    }

    fn best(&mut self, at: &str, value: &Value, forms: &[&'s Json]) -> Json {
        let names: Vec<&str> = forms.iter().flat_map(|form| self.all_types(form)).collect();
        if !names.is_empty() && !names.iter().any(|name| has_type(&value.kind, name)) {
            return self.mismatch(at, value, &diagnostics::expected(&names));
        }
        let mut trials = Vec::new();
        let fits = |form: &&&Json| self.all_types(form).iter().any(|name| has_type(&value.kind, name));
        let fitting: Vec<&&Json> = forms.iter().filter(fits).collect();
        let tried = if fitting.is_empty() { forms.iter().collect() } else { fitting };
        for form in tried {
            let mut trial =
                Self { problems: Vec::new(), origins: Default::default(), unchecked: Vec::new(), ..*self };
            let json = trial.value(at, value, form);
            trials.push((trial, json));
        }
        let Some((best, json)) = trials.into_iter().min_by_key(|(trial, _)| trial.problems.len()) else {
            return Json::Null;
        };
        self.problems.extend(best.problems);
        self.origins.extend(best.origins);
        self.unchecked.extend(best.unchecked);
        json
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_word_or_a_list_is_read() {
        // As schemars writes an enum without a tag whose first form is an enum of one word.
        let schema = json!({
            "anyOf": [{ "$ref": "#/$defs/Word" }, { "type": "array", "items": { "type": "string" } }],
            "$defs": { "Word": { "oneOf": [{ "description": "All.", "type": "string", "const": "all-linear" }] } },
        });
        let check = |value: ValueKind| {
            let mut checker = Checker::new(&schema, &[]);
            let json = checker.value("targets", &Value::new(None, value), &schema);
            checker.finish().map(|_| json).map_err(|error| error.to_string())
        };
        assert_eq!(check("all-linear".into()).unwrap(), json!("all-linear"));
        assert_eq!(check(vec!["q_proj"].into()).unwrap(), json!(["q_proj"]));
        let error = check("all_linear".into()).unwrap_err();
        assert!(error.contains("all_linear") && error.contains("all-linear"), "{error}");
        let error = check(3.into()).unwrap_err();
        assert!(error.contains("expected a string or a list"), "{error}");
    }
}
