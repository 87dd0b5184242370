use super::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

fn refusal(schema: &Value, given: &Value) -> String {
    let error = admit(schema, "bc", given).expect_err(&given.to_string());
    assert_eq!(error.code(), "Config");
    error.to_string()
}

/// The TypeScript walker reads the same table.
#[test]
fn the_table_of_refusals() {
    let table: Value = serde_json::from_str(include_str!("cases.json")).unwrap();
    for given in table["accepted"].as_array().unwrap() {
        admit(&table["schema"], "bc", given).unwrap();
    }
    for case in table["refused"].as_array().unwrap() {
        assert_eq!(refusal(&table["schema"], &case[0]), case[1].as_str().unwrap());
    }
}

#[test]
fn what_is_no_object_is_refused_and_null_is_nothing() {
    let schema = json!({ "properties": { "seed": { "type": "integer" } } });
    assert_eq!(refusal(&schema, &json!([1])), "bc is [1]; give an object of parameters");
    assert_eq!(admit(&schema, "bc", &Value::Null).unwrap(), Value::Null);
}

#[test]
fn a_number_without_a_fraction_is_an_integer() {
    let schema = json!({ "properties": { "seed": { "type": "integer" } } });
    assert_eq!(admit(&schema, "bc", &json!({ "seed": 5.0 })).unwrap(), json!({ "seed": 5 }));
    refusal(&schema, &json!({ "seed": 1e300 }));
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Shared {
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    actor_lr: f64,
    #[schemars(length(min = 1, max = 2), inner(range(min = 1, max = 8)))]
    actor_hidden: Vec<i64>,
}

impl Default for Shared {
    fn default() -> Self {
        Shared { actor_lr: 0.1, actor_hidden: vec![4] }
    }
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Whole {
    #[serde(flatten)]
    shared: Shared,
    #[schemars(range(min = 0.0))]
    cap: Option<f64>,
    #[schemars(inner(range(min = 0.0)))]
    pid: [f64; 3],
}

/// Groups of parameters that several algorithms share are flattened into their configurations;
/// serde then lets every key pass.
#[test]
fn a_flattened_schema_is_closed() {
    let schema = schemars::schema_for!(Whole).to_value();
    let names: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 4, "{names:?}");
    let given = json!({ "actor_lr": 1, "actor_hidden": [8, 8], "cap": 2, "pid": [0, 1, 2] });
    let read: Whole = serde_json::from_value(admit(&schema, "bc", &given).unwrap()).unwrap();
    assert_eq!((read.shared.actor_lr, read.cap, read.pid), (1.0, Some(2.0), [0.0, 1.0, 2.0]));
    for (given, message) in [
        (json!({ "actor_lr": 0 }), "actor_lr is 0; give a number above 0 and at most 1"),
        (json!({ "actor_lt": 0 }), "actor_lt is not a parameter of bc; did you mean actor_lr?"),
        (json!({ "shared": {} }), "shared is not a parameter of bc; leave it out"),
        (json!({ "actor_hidden": [9] }), "actor_hidden is [9]; give a list of 1 to 2 integers from 1 to 8"),
        (json!({ "cap": -1 }), "cap is -1; give a number of at least 0, or null"),
        (json!({ "pid": [0, -1, 0] }), "pid is [0,-1,0]; give a list of 3 numbers of at least 0"),
    ] {
        assert_eq!(refusal(&schema, &given), message);
    }
}
