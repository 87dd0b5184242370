//! What every parameter of every algorithm owes its reader: bounds, a meaning, and a default that it accepts itself.

use drcorl_algos::describe;
use drcorl_core::schema::{admit, Parameter};
use serde_json::Value;

/// Each schema of the registry with the name of its owner.
fn schemas() -> Vec<(String, Value)> {
    let description = describe();
    let algorithms = description["algorithms"].as_object().unwrap();
    let own = algorithms.iter().map(|(name, algorithm)| (name.clone(), algorithm["schema"].clone()));
    [("run".to_string(), description["run"]["schema"].clone())].into_iter().chain(own).collect()
}

/// Numbers are bounded on both sides, lists in length too. No number is exempt: even a seed must be exact in JSON.
fn unbounded(parameter: &Parameter) -> bool {
    let is = |name: &str| parameter.types.iter().any(|known| known == name);
    let number = is("number") || is("integer");
    let list = parameter.items.as_deref();
    number && (parameter.lower.is_none() || parameter.upper.is_none())
        || is("array") && (parameter.length.1.is_none() || list.is_none_or(unbounded))
        || is("object") && (parameter.length.1.is_none() || list.is_none_or(unbounded))
}

#[test]
fn every_number_is_bounded() {
    for (owner, schema) in schemas() {
        for (key, property) in schema["properties"].as_object().unwrap() {
            let parameter = Parameter::read(property, &schema);
            assert!(!unbounded(&parameter), "{owner}.{key} accepts {parameter}");
        }
    }
}

#[test]
fn every_parameter_states_its_meaning() {
    for (owner, schema) in schemas() {
        for (key, property) in schema["properties"].as_object().unwrap() {
            let help = property["description"].as_str().unwrap_or_default();
            let says_more = help.to_lowercase().replace([' ', '.'], "_").trim_matches('_') != key.as_str();
            assert!(help.ends_with('.') && help.contains(' ') && says_more, "{owner}.{key}: {help:?}");
        }
    }
}

#[test]
fn every_schema_is_closed_and_accepts_its_own_defaults_and_presets() {
    for (owner, schema) in schemas() {
        assert_eq!(schema["additionalProperties"], false, "{owner}");
        let properties = schema["properties"].as_object().unwrap();
        let defaults = properties.iter().map(|(key, property)| (key.clone(), property["default"].clone())).collect();
        admit(&schema, &owner, &Value::Object(defaults)).unwrap();
    }
    let description = describe();
    for (name, algorithm) in description["algorithms"].as_object().unwrap() {
        for preset in algorithm["presets"].as_object().unwrap().values() {
            admit(&algorithm["schema"], name, &preset["config"]).unwrap();
            admit(&description["run"]["schema"], name, &preset["run"]).unwrap();
            for config in preset["tasks"].as_object().unwrap().values() {
                admit(&algorithm["schema"], name, config).unwrap();
            }
        }
    }
}

/// Files and flags name a parameter without its owner.
#[test]
fn no_algorithm_takes_a_name_of_the_run() {
    let schemas = schemas();
    let run = schemas[0].1["properties"].as_object().unwrap();
    for (owner, schema) in &schemas[1..] {
        let shared: Vec<_> =
            schema["properties"].as_object().unwrap().keys().filter(|key| run.contains_key(*key)).collect();
        assert!(shared.is_empty(), "{owner}: {shared:?}");
    }
}
