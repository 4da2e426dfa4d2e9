//! A read-only view of a JSON schema in the shape that schemars writes.

use serde_json::Value as Json;

/// A root schema, for resolving references into its definitions.
#[derive(Clone, Copy)]
pub(super) struct SchemaView<'s> {
    root: &'s Json,
}

impl<'s> SchemaView<'s> {
    pub(super) fn new(root: &'s Json) -> Self {
        Self { root }
    }

    /// Follows `$ref`.
    pub(super) fn resolve(self, mut schema: &'s Json) -> &'s Json {
        while let Some(pointer) = schema.get("$ref").and_then(Json::as_str) {
            match self.root.pointer(pointer.trim_start_matches('#')) {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }

    /// The alternatives of `oneOf` or `anyOf`, resolved.
    pub(super) fn options(self, schema: &'s Json) -> Option<Vec<&'s Json>> {
        let options = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
        Some(options.iter().map(|option| self.resolve(option)).collect())
    }

    /// The tagged union that a schema describes, possibly inside an `Option`.
    pub(super) fn tagged(self, schema: &'s Json) -> Option<Tagged<'s>> {
        let schema = self.resolve(schema);
        let mut options = self.options(schema)?;
        options.retain(|option| types(option) != ["null"]);
        match options[..] {
            [only] if self.options(only).is_some() => self.tagged(only),
            _ => Tagged::of(schema, &options),
        }
    }
}

/// A tagged union: tables with one common key, the tag, whose constant identifies the variant.
pub(super) struct Tagged<'s> {
    /// The tag's key.
    pub(super) tag: &'s str,
    /// Title of the schema.
    pub(super) title: Option<&'s str>,
    /// Tag value and schema of each variant.
    pub(super) variants: Vec<(&'s str, &'s Json)>,
}

impl<'s> Tagged<'s> {
    pub(super) fn of(schema: &'s Json, options: &[&'s Json]) -> Option<Self> {
        let properties = options.first()?.get("properties")?.as_object()?;
        let title = schema.get("title").and_then(Json::as_str);
        properties.keys().find_map(|tag| {
            let variant =
                |option: &&'s Json| Some((constant(option.get("properties")?.get(tag)?)?, *option));
            let variants = options.iter().map(variant).collect::<Option<Vec<_>>>()?;
            Some(Self { tag, title, variants })
        })
    }

    /// Whether the variants are components of a kind, by the title of the schema.
    pub(super) fn is_component(&self) -> bool {
        self.title.is_some_and(|title| isr_api::Kind::ALL.iter().any(|kind| kind.section() == title))
    }

    pub(super) fn names(&self) -> Vec<&'s str> {
        self.variants.iter().map(|(name, _)| *name).collect()
    }
}

fn constant(schema: &Json) -> Option<&str> {
    let one = || schema.get("enum").and_then(Json::as_array).filter(|all| all.len() == 1)?.first();
    schema.get("const").or_else(one)?.as_str()
}

/// Type names of a schema; empty if any type is allowed.
pub(super) fn types(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(name)) => vec![name],
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
        _ if schema.get("properties").is_some() => vec!["object"],
        _ => Vec::new(),
    }
}

/// Enumerated strings of a schema; `None` if it enumerates none.
pub(super) fn literals(schema: &Json) -> Option<Vec<&str>> {
    if let Some(text) = schema.get("const") {
        return text.as_str().map(|text| vec![text]);
    }
    let listed = schema.get("enum")?.as_array()?;
    listed.iter().filter(|one| !one.is_null()).map(Json::as_str).collect()
}

/// Required keys of a table.
pub(super) fn required(schema: &Json) -> impl Iterator<Item = &str> {
    let listed = schema.get("required").and_then(Json::as_array);
    listed.into_iter().flatten().filter_map(Json::as_str)
}

/// Listed values of a schema, of any type; `None` if it lists none.
pub(super) fn listed(schema: &Json) -> Option<Vec<&Json>> {
    match schema.get("const") {
        Some(only) => Some(vec![only]),
        None => Some(schema.get("enum")?.as_array()?.iter().collect()),
    }
}

/// Bounds of a number.
#[derive(Default)]
pub(super) struct Bounds {
    /// Minimum, from the keyword or the integer format.
    pub(super) least: Option<f64>,
    /// Maximum, from the keyword or the integer format.
    pub(super) most: Option<f64>,
    /// What it must be more than.
    pub(super) above: Option<f64>,
    /// What it must be less than.
    pub(super) below: Option<f64>,
    /// What it must be a multiple of.
    pub(super) step: Option<f64>,
}

impl Bounds {
    pub(super) fn of(schema: &Json) -> Self {
        let limit = |key| schema.get(key).and_then(Json::as_f64);
        let (least, most) = match schema.get("format").and_then(Json::as_str) {
            Some("int8") => (Some(-128.0), Some(127.0)),
            Some("int16") => (Some(-32_768.0), Some(32_767.0)),
            Some("int32") => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
            Some("uint8") => (Some(0.0), Some(255.0)),
            Some("uint16") => (Some(0.0), Some(65_535.0)),
            Some("uint32") => (Some(0.0), Some(f64::from(u32::MAX))),
            _ => (None, None),
        };
        Self {
            least: limit("minimum").or(least),
            most: limit("maximum").or(most),
            above: limit("exclusiveMinimum"),
            below: limit("exclusiveMaximum"),
            step: limit("multipleOf"),
        }
    }

    /// What is wrong with a number.
    pub(super) fn broken(&self, number: f64) -> Option<String> {
        let multiple = |step: f64| {
            let count = number / step;
            (count - count.round()).abs() <= 1e-9 * count.abs().max(1.0)
        };
        let broken = |limit: Option<f64>, holds: &dyn Fn(f64) -> bool, what: &str| {
            limit.filter(|limit| !holds(*limit)).map(|limit| format!("{what} {limit}"))
        };
        broken(self.least, &|it| number >= it, "at least")
            .or_else(|| broken(self.most, &|it| number <= it, "at most"))
            .or_else(|| broken(self.above, &|it| number > it, "more than"))
            .or_else(|| broken(self.below, &|it| number < it, "less than"))
            .or_else(|| broken(self.step, &multiple, "a multiple of"))
    }
}
