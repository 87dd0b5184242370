//! What a parameter accepts, read from its JSON Schema, and the refusal of everything else.
//!
//! The schema that schemars derives from a configuration is the only place where a bound stands. It is walked here
//! before a run is built, and by `src/config/admit.ts` before anything is loaded; one table of refusals
//! (`schema/cases.json`) holds both to the same words. A parameter is a number, a text, a boolean,
//! one of several names, a list of such, a table of such by names, or null in place of one.

use crate::error::{Error, Result};
use crate::run::require;
use serde_json::{Number, Value};
use std::fmt;

/// Characters of a value that an error repeats.
const SHOWN: usize = 60;

/// Upper bounds that many parameters share: beyond every use,
/// and low enough that a number too many is not taken for a wish.
pub mod most {
    /// Steps of one phase.
    pub const STEPS: u64 = 1_000_000_000;
    /// Rows of a batch.
    pub const ROWS: u64 = 1_000_000;
    /// Rows of a rollout, all members of an ensemble apart.
    pub const ROLLOUTS: u64 = 100_000;
    /// Width of a layer.
    pub const WIDTH: u64 = 8192;
    /// Hidden layers of a network.
    pub const LAYERS: u64 = 8;
    /// Learning rates: Adam moves a weight by about this much in a step.
    pub const RATE: f64 = 1e6;
    /// Standard deviations added to a mean.
    pub const DEVIATIONS: f64 = 100.0;
    /// Factors, weights and quantities in units of the data.
    pub const FACTOR: f64 = 1e9;
    /// Integers up to this one are exact in JSON, whoever reads it.
    pub const SEED: u64 = (1 << 53) - 1;
}

/// `given` as the configuration `owner` with this schema may read it: numbers without a fraction are integers. Errs
/// with `Config` on keys that the schema does not have, whatever it says of additional ones,
/// and on values of another type or outside their bounds.
pub fn admit(schema: &Value, owner: &str, given: &Value) -> Result<Value> {
    let given = without_fractions(given);
    let keys = match &given {
        Value::Null => return Ok(given),
        Value::Object(keys) => keys,
        other => return require(false, owner, show(other), "give an object of parameters").map(|()| Value::Null),
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    for (key, value) in keys {
        let Some(property) = properties.and_then(|properties| properties.get(key)) else {
            let known = properties.into_iter().flatten().map(|(key, _)| key.as_str());
            let remedy = nearest(key, known).map_or("leave it out".into(), |guess| format!("did you mean {guess}?"));
            return Err(Error::Config(format!("{key} is not a parameter of {owner}; {remedy}")));
        };
        let parameter = Parameter::read(property, schema);
        require(parameter.accepts(value), key, show(value), &format!("give {parameter}"))?;
    }
    Ok(given)
}

/// The known name closest to a mistyped one, if any is close.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace('-', "_");
    let wanted = plain(word);
    let far = 2.max(wanted.chars().count() / 3);
    known
        .map(|name| (strsim::levenshtein(&wanted, &plain(name)), name))
        .filter(|&(distance, _)| distance <= far)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// JSON does not tell 5.0 from 5, serde does.
fn without_fractions(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(real) if real.fract() == 0.0 && real.abs() < 2f64.powi(53) => Value::from(real as i64),
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(without_fractions).collect(),
        Value::Object(entries) => entries.iter().map(|(key, value)| (key.clone(), without_fractions(value))).collect(),
        other => other.clone(),
    }
}

fn show(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// One end of a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    pub value: f64,
    /// True where the bound itself is excluded.
    pub open: bool,
}

/// What one parameter accepts: the forms schemars uses for enums and options (`oneOf` of consts, `anyOf` with null, a
/// list of types) folded into one description. Its `Display` says it as the object of "give".
#[derive(Clone, Debug, Default)]
pub struct Parameter {
    /// JSON types without null.
    pub types: Vec<String>,
    pub nullable: bool,
    /// The values of an enumeration.
    pub choices: Vec<Value>,
    pub lower: Option<Bound>,
    pub upper: Option<Bound>,
    /// Of the items, where it is a list or a table.
    pub items: Option<Box<Parameter>>,
    /// Least and largest length of a list or table.
    pub length: (u64, Option<u64>),
}

impl Parameter {
    /// Reads one property; `root` has the definitions it refers to.
    pub fn read(property: &Value, root: &Value) -> Self {
        let mut parameter = Parameter::default();
        parameter.visit(property, root);
        parameter
    }

    fn visit(&mut self, node: &Value, root: &Value) {
        let reference = node.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
        if let Some(target) = reference.and_then(|path| root.pointer(path)) {
            self.visit(target, root);
        }
        match node.get("type") {
            Some(Value::String(name)) => self.add_type(name),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).for_each(|name| self.add_type(name)),
            _ => {}
        }
        for value in node.get("enum").and_then(Value::as_array).into_iter().flatten().chain(node.get("const")) {
            match value {
                Value::Null => self.nullable = true,
                value => self.choices.push(value.clone()),
            }
        }
        let bound = |key: &str, open| node.get(key).and_then(Value::as_f64).map(|value| Bound { value, open });
        self.lower = bound("exclusiveMinimum", true).or(bound("minimum", false)).or(self.lower);
        self.upper = bound("exclusiveMaximum", true).or(bound("maximum", false)).or(self.upper);
        if let Some(items) = node.get("items").or(node.get("additionalProperties")) {
            self.items = Some(Box::new(Parameter::read(items, root)));
        }
        let count = |key: &str| node.get(key).and_then(Value::as_u64);
        let most = count("maxItems").or(count("maxProperties"));
        self.length = (count("minItems").unwrap_or(self.length.0), most.or(self.length.1));
        for branches in ["oneOf", "anyOf", "allOf"] {
            for branch in node.get(branches).and_then(Value::as_array).into_iter().flatten() {
                self.visit(branch, root);
            }
        }
    }

    fn add_type(&mut self, name: &str) {
        if name == "null" {
            self.nullable = true;
        } else if !self.types.iter().any(|known| known == name) {
            self.types.push(name.into());
        }
    }

    /// Whether the value is one of its choices, or of its type and within its bounds.
    /// A pattern of a text is left to what parses it.
    pub fn accepts(&self, value: &Value) -> bool {
        if value.is_null() {
            return self.nullable;
        }
        if !self.choices.is_empty() {
            return self.choices.contains(value);
        }
        let is = |name: &str| self.types.iter().any(|known| known == name);
        match value {
            Value::Number(number) => {
                (is("number") || is("integer") && !number.is_f64()) && number.as_f64().is_some_and(|n| self.spans(n))
            }
            Value::Array(list) => is("array") && self.holds(list.len(), list.iter()),
            Value::Object(table) => is("object") && self.holds(table.len(), table.values()),
            Value::Bool(_) => is("boolean"),
            Value::String(_) => is("string"),
            Value::Null => false,
        }
    }

    /// Whether so many items are allowed, and each is.
    fn holds<'v>(&self, count: usize, mut items: impl Iterator<Item = &'v Value>) -> bool {
        let (least, most) = (self.length.0, self.length.1.unwrap_or(u64::MAX));
        let fits = |item| self.items.as_deref().is_none_or(|items| items.accepts(item));
        (least..=most).contains(&(count as u64)) && items.all(fits)
    }

    fn spans(&self, number: f64) -> bool {
        let above = self.lower.is_none_or(|low| number > low.value || !low.open && number == low.value);
        let below = self.upper.is_none_or(|high| number < high.value || !high.open && number == high.value);
        number.is_finite() && above && below
    }

    fn words(&self, plural: bool) -> String {
        if !self.choices.is_empty() {
            let choices: Vec<String> = self.choices.iter().map(Value::to_string).collect();
            return format!("one of {}", choices.join(", "));
        }
        let names: Vec<String> = self.types.iter().map(|name| self.noun(name, plural)).collect();
        [names.join(" or "), self.range()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }

    fn noun(&self, name: &str, plural: bool) -> String {
        let text = match (name, plural) {
            ("boolean", _) => "true or false",
            ("integer", false) => "an integer",
            ("integer", true) => "integers",
            ("number", false) => "a number",
            ("number", true) => "numbers",
            ("string", false) => "a text",
            ("string", true) => "texts",
            ("object", _) => {
                let most = self.length.1.map_or(String::new(), |most| format!("up to {most} "));
                let items = self.items.as_deref().map_or("values".into(), |items| items.words(true));
                return format!("{most}names with {items}");
            }
            ("array", _) => {
                let count = match self.length {
                    (least, Some(most)) if least == most => format!("{least} "),
                    (least, Some(most)) => format!("{least} to {most} "),
                    (0, None) => String::new(),
                    (least, None) => format!("at least {least} "),
                };
                let items = self.items.as_deref().map_or("values".into(), |items| items.words(true));
                return format!("{} of {count}{items}", if plural { "lists" } else { "a list" });
            }
            (other, _) => other,
        };
        text.into()
    }

    fn range(&self) -> String {
        let end = |bound: Bound, open: &str, closed: &str| {
            format!("{} {}", if bound.open { open } else { closed }, Shown(bound.value))
        };
        match (self.lower, self.upper) {
            (None, None) => String::new(),
            (Some(low), None) => end(low, "above", "of at least"),
            (None, Some(high)) => end(high, "below", "of at most"),
            (Some(low), Some(high)) if !low.open && !high.open => {
                format!("from {} to {}", Shown(low.value), Shown(high.value))
            }
            (Some(low), Some(high)) => {
                format!("{} and {}", end(low, "above", "of at least"), end(high, "below", "at most"))
            }
        }
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.words(false))?;
        formatter.write_str(if self.nullable { ", or null" } else { "" })
    }
}

/// A bound as JSON writes it, without a fraction that is none.
struct Shown(f64);

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = Number::from_f64(self.0).map(Value::Number).unwrap_or_default();
        write!(formatter, "{}", without_fractions(&number))
    }
}

#[cfg(test)]
mod tests;
