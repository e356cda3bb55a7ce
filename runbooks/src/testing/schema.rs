//! The JSON Schema of a test file: the reader checks files against it, and editors get completion and documentation from it.

use serde_json::{Value, json};

use super::{CASES_MAX, ENDS, STATES};

/// JSON Schema (draft 2020-12) of a test file.
#[must_use]
pub fn schema() -> Value {
    let names = |what: &str| json!({ "type": "array", "items": { "type": "string" }, "description": what });
    let by_step = |of: Value, what: &str| json!({ "type": "object", "additionalProperties": of, "description": what });
    let steps = by_step(
        json!({ "oneOf": [
            words(),
            { "$ref": "#/$defs/given" },
            { "type": "array", "minItems": 1, "maxItems": 100, "items": { "oneOf": [words(), { "$ref": "#/$defs/given" }] } },
        ] }),
        "What happens to steps, by name: a word, a mapping, or a list with one of these for each attempt (the last holds for all that follow). A step that is not named succeeds, and an approval is given.",
    );
    let given = |extra: Vec<(&str, Value)>| {
        let mut properties = serde_json::Map::new();
        properties.insert("mode".into(), json!({ "type": "string", "description": "The mode." }));
        properties.insert(
            "inputs".into(),
            json!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] }, "description": "Inputs by name." }),
        );
        properties.insert("steps".into(), steps.clone());
        properties.extend(extra.into_iter().map(|(key, value)| (key.to_owned(), value)));
        Value::Object(properties)
    };
    let people = json!({
        "type": "array", "maxItems": 100, "items": { "$ref": "#/$defs/person" },
        "description": "What people do beside answering approvals, in order; each act happens once.",
    });
    let expect = json!({
        "type": "object", "additionalProperties": false, "description": "What is expected; what is not named may be anything.",
        "properties": {
            "outcome": { "enum": ENDS, "description": "How the run comes to rest." },
            "held": names("The steps that wait for a person's decision, exactly these."),
            "steps": by_step(json!({ "enum": STATES }), "How steps stand."),
            "order": names("Each of these began, and only after the one before it had ended."),
            "with": by_step(json!({ "type": "object" }), "Parts of the parameters that steps got, every expression filled in."),
            "attempts": by_step(json!({ "type": "integer", "minimum": 0, "maximum": 1000 }), "How often steps were tried."),
            "undone": names("Steps that were undone, exactly these, in this order."),
            "standing": names("Steps whose effect stands or may stand when the run has come to rest, exactly these."),
            "asked": by_step(
                json!({
                    "type": "object", "additionalProperties": false,
                    "properties": {
                        "roles": names("These roles, exactly."),
                        "count": { "type": "integer", "minimum": 1, "maximum": 10, "description": "So many people." },
                        "shown": { "description": "The facts shown hold at least this." },
                    },
                }),
                "Approvals that people were asked for.",
            ),
            "why": by_step(json!({ "type": "string", "minLength": 1 }), "Texts that the reasons of steps hold."),
            "no_return": { "type": "string", "minLength": 1, "description": "The step that crossed the point of no return, or `none`." },
        },
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Lifeboat runbook tests",
        "type": "object",
        "additionalProperties": false,
        "required": ["lifeboat-test", "cases"],
        "properties": {
            "lifeboat-test": { "enum": ["v1"], "description": "Version of the form of test files." },
            "runbook": { "type": "string", "minLength": 1, "description": "The runbook, from the folder of this file. Left out: this file's name without `.test`." },
            "defaults": { "type": "object", "additionalProperties": false, "properties": given(Vec::new()), "description": "What holds in every case that does not say otherwise." },
            "cases": {
                "type": "array", "minItems": 1, "maxItems": CASES_MAX, "description": "The cases: each is a run of its own in a simulated world.",
                "items": {
                    "type": "object", "additionalProperties": false, "required": ["name", "expect"],
                    "properties": given(vec![
                        ("name", json!({ "type": "string", "minLength": 1, "maxLength": 200, "description": "What is shown when it fails." })),
                        ("people", people),
                        ("expect", expect),
                    ]),
                },
            },
        },
        "$defs": { "given": attempt(), "person": person() },
    })
}

fn words() -> Value {
    json!({ "enum": ["succeeds", "fails", "fails_for_good", "refused", "in_doubt", "approved", "denied", "expires"] })
}

fn attempt() -> Value {
    let outputs = |what: &str| json!({ "type": "object", "description": what });
    let why = |what: &str| json!({ "type": "string", "minLength": 1, "maxLength": 1000, "description": what });
    json!({
        "type": "object", "additionalProperties": false,
        "properties": {
            "succeeds": outputs("It is done, with these outputs; those that are not named are samples of their type."),
            "fails": why("It had no effect, and the cause may pass: why."),
            "fails_for_good": why("It had no effect, and trying again is no use: why."),
            "refused": why("Its own checks say that it must not start: why."),
            "in_doubt": {
                "type": "object", "additionalProperties": false, "description": "Its answer is lost.",
                "properties": {
                    "observed": { "enum": ["done", "not_done", "in_progress", "foreign", "unknown"], "description": "What is seen when the world is asked. Left out: unknown." },
                    "outputs": outputs("Outputs where it is seen done."),
                    "why": why("What was lost."),
                },
            },
            "approved": { "type": "array", "items": { "type": "string" }, "description": "These people of the inventory say yes. The word `approved` alone: as many as are needed." },
            "denied": { "type": "string", "description": "This person of the inventory says no." },
            "undo_fails": why("Its undo fails: why. May stand beside any of the others, or alone."),
        },
    })
}

fn person() -> Value {
    json!({
        "type": "object", "additionalProperties": false,
        "properties": {
            "begun": { "type": "string", "description": "When this step has begun an attempt." },
            "done": { "type": "string", "description": "When this step is done or skipped." },
            "held": { "type": "string", "description": "When this step is held, rejected or has failed, and the run waits for a person." },
            "do": { "enum": ["cancel", "retry", "skip", "give-up", "say-done"], "description": "What the person does: stops the run, or decides about the held step." },
            "outputs": { "type": "object", "description": "Outputs of a step that the person says is done." },
        },
        "required": ["do"],
    })
}
