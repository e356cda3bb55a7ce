//! Between JSON, which journals and steps speak, and the values of the expression language.

use std::collections::HashMap;

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelOptional, CelString, CelUInt};
use cel::common::value::Val;
use cel::{Context, Value as CelValue};
use serde_json::{Map, Number, Value};

use super::compile::{Compiled, Named, environment};
use super::length::Length;
use super::{ITEMS_MAX, Scope, StepFacts, TEXT_BYTES_MAX};
use crate::duration::Period;
use crate::names::StepId;

/// Runs a parsed expression.
pub(crate) fn evaluate(compiled: &Compiled, scope: &Scope<'_>) -> Result<Value, String> {
    let mut context = Context::with_env(environment());
    context.add_variable_as_val("mode", Box::new(CelString::from(scope.mode)));
    context.add_variable_as_val("inputs", inputs_of(compiled, scope)?);
    context.add_variable_as_val("steps", steps_of(compiled, scope)?);
    if let Some((item, index)) = scope.item {
        context.add_variable_as_val("item", to_cel(item)?);
        context.add_variable_as_val("index", Box::new(CelInt::from(i64::from(index))));
    }
    if let Some(outputs) = scope.outputs {
        context.add_variable_as_val("outputs", to_cel(outputs)?);
    }
    let answer = CelValue::resolve_val(compiled.program.expression(), &context).map_err(|error| plain(&error.to_string()))?;
    to_json(answer.as_ref())
}

/// What a JSON value is, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Only the inputs that are named, where they are.
fn inputs_of<'v>(compiled: &Compiled, scope: &Scope<'v>) -> Result<Box<dyn Val + 'v>, String> {
    let mut map: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> = HashMap::new();
    let read = |name: &String| match &compiled.reads.inputs {
        Named::These(names) => names.contains(name),
        Named::All => true,
    };
    for (name, value) in scope.inputs.iter().filter(|(name, _)| read(name)) {
        map.insert(CelMapKey::from(name.as_str()), to_cel(value)?);
    }
    Ok(Box::new(CelMap::from(map)))
}

/// Only the steps that are named: a plan may have 100,000.
fn steps_of<'v>(compiled: &Compiled, scope: &Scope<'v>) -> Result<Box<dyn Val + 'v>, String> {
    let mut map: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> = HashMap::new();
    let mut add = |id: &'v StepId, facts: &'v StepFacts| -> Result<(), String> {
        let mut step: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> = HashMap::new();
        step.insert(CelMapKey::from("state"), Box::new(CelString::from(facts.state)));
        if let Some(outputs) = &facts.outputs {
            step.insert(CelMapKey::from("outputs"), to_cel(outputs)?);
        }
        map.insert(CelMapKey::from(id.as_str()), Box::new(CelMap::from(step)));
        Ok(())
    };
    match &compiled.reads.steps {
        Named::These(names) => {
            for name in names {
                let found = StepId::new(name).ok().and_then(|id| scope.steps.get_key_value(&id));
                if let Some((id, facts)) = found {
                    add(id, facts)?;
                }
            }
        }
        Named::All => scope.steps.iter().try_for_each(|(id, facts)| add(id, facts))?,
    }
    Ok(Box::new(CelMap::from(map)))
}

/// Null entries of objects are left out: absent is the one test.
fn to_cel<'v>(value: &'v Value) -> Result<Box<dyn Val + 'v>, String> {
    Ok(match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(truth) => Box::new(CelBool::from(*truth)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Box::new(CelInt::from(whole)),
            (None, Some(real)) if number.is_f64() => Box::new(CelDouble::from(real)),
            _ => return Err(format!("{number} is too large a whole number")),
        },
        Value::String(text) => {
            if text.len() > TEXT_BYTES_MAX {
                return Err(format!("a text of {} bytes is too long to read here; {TEXT_BYTES_MAX} is the most", text.len()));
            }
            Box::new(CelString::from(text.as_str()))
        }
        Value::Array(items) => {
            within_limit(items.len())?;
            Box::new(CelList::from(items.iter().map(to_cel).collect::<Result<Vec<_>, _>>()?))
        }
        Value::Object(entries) => {
            within_limit(entries.len())?;
            let mut map: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> = HashMap::with_capacity(entries.len());
            for (key, value) in entries {
                if !value.is_null() {
                    map.insert(CelMapKey::from(key.as_str()), to_cel(value)?);
                }
            }
            Box::new(CelMap::from(map))
        }
    })
}

fn within_limit(items: usize) -> Result<(), String> {
    if items > ITEMS_MAX { Err(format!("{items} items are too many to read here; {ITEMS_MAX} is the most")) } else { Ok(()) }
}

fn to_json(value: &dyn Val) -> Result<Value, String> {
    if let Some(truth) = value.downcast_ref::<CelBool>() {
        return Ok(Value::Bool(*truth.inner()));
    }
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        return Ok(Value::String(text.inner().to_owned()));
    }
    if let Some(whole) = value.downcast_ref::<CelInt>() {
        return Ok(Value::from(*whole.inner()));
    }
    if let Some(whole) = value.downcast_ref::<CelUInt>() {
        return Ok(Value::from(*whole.inner()));
    }
    if let Some(real) = value.downcast_ref::<CelDouble>() {
        return Number::from_f64(*real.inner()).map(Value::Number).ok_or_else(|| "it is no finite number".to_owned());
    }
    if let Some(length) = value.downcast_ref::<Length>() {
        return Ok(Value::String(Period(length.0).to_string()));
    }
    if value.downcast_ref::<CelNull>().is_some() {
        return Ok(Value::Null);
    }
    if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        return list.inner().iter().map(|item| to_json(item.as_ref())).collect::<Result<_, _>>().map(Value::Array);
    }
    if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        let mut object = Map::new();
        for (key, value) in map.inner() {
            let key = match key {
                CelMapKey::String(text) => text.inner().to_owned(),
                CelMapKey::Bool(truth) => truth.inner().to_string(),
                CelMapKey::Int(whole) => whole.inner().to_string(),
                CelMapKey::UInt(whole) => whole.inner().to_string(),
            };
            object.insert(key, to_json(value.as_ref())?);
        }
        return Ok(Value::Object(object));
    }
    if let Some(maybe) = value.downcast_ref::<CelOptional<'_>>() {
        return Err(match maybe.option() {
            Some(_) => "it may be absent; add .orValue(...)".to_owned(),
            None => "it is absent".to_owned(),
        });
    }
    Err(format!("a value of type {} cannot be used here", value.get_type().name()))
}

/// The evaluator's messages begin with a capital letter; ours do not.
fn plain(message: &str) -> String {
    let mut letters = message.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
