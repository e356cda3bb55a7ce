//! The named things that steps act on, and the people who may act: `lifeboat.yaml`, checked. Each kind of resource is a type
//! of `lifeboat-steps`; what all kinds share is here.

mod read;
mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

pub use lifeboat_runbooks::catalog::{BadParameters, Undoable};
use lifeboat_runbooks::catalog::{DrillPolicy, ResourceInfo, Resources};
use lifeboat_runbooks::duration::Period;

use crate::growth::disk::DiskLimits;
use crate::secret::SecretRef;

pub use read::read;
pub use store::{EtcdChoice, StoreChoice};

/// A kind of resource: the type of its own fields in the inventory.
pub trait Resource: DeserializeOwned + JsonSchema + fmt::Debug + Send + Sync + 'static {
    /// `database`: as parameters of steps refer to it (`x-lifeboat-resource`).
    const KIND: &'static str;
    /// `databases`: the section of the inventory that holds resources of this kind.
    const SECTION: &'static str;
    /// Names of its nodes or targets.
    fn nodes(&self) -> Vec<String>;
    /// What the types of the fields cannot say, checked when the inventory is read.
    ///
    /// # Errors
    /// Where and why.
    fn check(&self) -> Result<(), BadParameters> {
        Ok(())
    }
}

type Describe = fn(&Value) -> Result<Vec<String>, BadParameters>;

/// A kind of resource with its Rust type erased.
#[derive(Clone, Debug)]
pub struct ResourceKind {
    /// `database`.
    pub kind: &'static str,
    /// `databases`.
    pub section: &'static str,
    /// JSON Schema (2020-12) of the kind's own fields.
    pub schema: Value,
    pub(crate) describe: Describe,
}

impl ResourceKind {
    pub(crate) fn of<R: Resource>() -> Self {
        let schema = SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<R>().to_value();
        Self { kind: R::KIND, section: R::SECTION, schema, describe: describe::<R> }
    }
}

fn describe<R: Resource>(value: &Value) -> Result<Vec<String>, BadParameters> {
    let resource: R = serde_path_to_error::deserialize(value).map_err(|error| BadParameters {
        pointer: format!("/{}", error.path().to_string().replace('.', "/")),
        message: error.inner().to_string(),
    })?;
    resource.check()?;
    Ok(resource.nodes())
}

/// Fields that every resource may have beside those of its kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommonFields {
    /// Where it is, if it is in one place.
    #[serde(default)]
    pub region: Option<String>,
    /// Resources or regions that it cannot work without.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// Whether drills may change it.
    #[serde(default)]
    pub drill: DrillRule,
    /// The resource that takes its place in a drill.
    #[serde(default)]
    pub drill_as: Option<String>,
}

/// Whether drills may change a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DrillRule {
    /// They may.
    Allow,
    /// They may not.
    #[default]
    Deny,
}

/// Names of the common fields, in order.
const COMMON: [&str; 4] = ["region", "depends_on", "drill", "drill_as"];

/// A person who may act.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// What they may do: names that approvals ask for.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The system user they work as on this machine. Never root: root is not a person.
    #[serde(default)]
    pub system_user: Option<String>,
    /// Their numeric Telegram id.
    #[serde(default)]
    pub telegram_id: Option<u64>,
}

/// What runbooks may not decide for themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policies {
    /// Programs that `command` steps and fences may start, by absolute path. Empty: none.
    #[serde(default)]
    pub programs: Vec<PathBuf>,
    /// How long a live run waits for drills and backups that hold what it needs, after they were asked to turn back. 60s where it is
    /// left out.
    #[serde(default)]
    pub preempt_within: Option<Period>,
    /// A step that was proven longer ago than this counts as stale: `90d`. Without it no proof grows old.
    #[serde(default)]
    pub readiness_max_age: Option<Period>,
    /// The system group whose members may reach a running engine's control socket to approve or look. Without it only the user who
    /// runs the engine can.
    #[serde(default)]
    pub control_group: Option<String>,
    /// Where signed checkpoints of the journals are kept. Without it nobody can prove later that a journal was not rewritten.
    #[serde(default)]
    pub checkpoints: Option<CheckpointPolicy>,
    /// How full the disk of the data folder may be.
    #[serde(default)]
    pub disk: DiskLimits,
}

/// Signed checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointPolicy {
    /// The file that they are appended to: outside of the data folder, best on another machine's disk, and append-only there. A relative
    /// path counts from the inventory's folder.
    pub file: PathBuf,
    /// The private key that signs them, as `lifeboat audit keygen` makes it.
    pub key: SecretRef,
}

/// One named resource.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceEntry {
    /// Its kind.
    pub kind: &'static str,
    /// What all kinds share.
    pub common: CommonFields,
    /// Its kind's own fields.
    pub own: Value,
    /// Names of its nodes or targets.
    pub nodes: Vec<String>,
}

/// The checked inventory.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// The folder of the file: relative paths in it count from here.
    pub folder: PathBuf,
    /// Resources by name.
    pub resources: BTreeMap<String, ResourceEntry>,
    /// People by name.
    pub people: BTreeMap<String, Person>,
    /// Policies.
    pub policies: Policies,
    /// Where journals are kept.
    pub store: StoreChoice,
}

/// A resource that a step asked for and the inventory does not give.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// No such name.
    #[error("the inventory has no {kind} named {name:?}")]
    Unknown {
        /// The kind asked for.
        kind: &'static str,
        /// The name asked for.
        name: String,
    },
    /// Another kind.
    #[error("{name:?} is a {found}, not a {kind}")]
    OtherKind {
        /// The name.
        name: String,
        /// The kind asked for.
        kind: &'static str,
        /// Its kind.
        found: &'static str,
    },
    /// Fields that do not fit.
    #[error("{name:?} cannot be read: {why}")]
    Unreadable {
        /// The name.
        name: String,
        /// Why.
        why: String,
    },
}

impl Inventory {
    /// A resource by name, typed.
    ///
    /// # Errors
    /// Where there is none of this kind.
    pub fn get<R: Resource>(&self, name: &str) -> Result<R, InventoryError> {
        let entry = self.resources.get(name).ok_or_else(|| InventoryError::Unknown { kind: R::KIND, name: name.to_owned() })?;
        if entry.kind != R::KIND {
            return Err(InventoryError::OtherKind { name: name.to_owned(), kind: R::KIND, found: entry.kind });
        }
        serde_json::from_value(entry.own.clone())
            .map_err(|error| InventoryError::Unreadable { name: name.to_owned(), why: error.to_string() })
    }

    /// A path of the inventory: relative ones count from its folder.
    #[must_use]
    pub fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// The person who works as this system user. Root is never one.
    #[must_use]
    pub fn person_of_system_user(&self, user: &str) -> Option<(&str, &Person)> {
        if user == "root" {
            return None;
        }
        self.people.iter().find(|(_, person)| person.system_user.as_deref() == Some(user)).map(|(name, person)| (name.as_str(), person))
    }

    /// Takes a value whose shape [`schema`] has accepted.
    ///
    /// # Errors
    /// All places that do not fit.
    pub fn from_value(value: &Value, folder: &Path, kinds: &[ResourceKind]) -> Result<Self, Vec<BadParameters>> {
        let mut problems = Vec::new();
        let mut inventory = Self { folder: folder.to_owned(), ..Self::default() };
        for kind in kinds {
            let Some(section) = value.get(kind.section).and_then(Value::as_object) else {
                continue;
            };
            for (name, fields) in section {
                if !is_resource_name(name) {
                    problems.push(BadParameters {
                        pointer: format!("/{}/{name}", kind.section),
                        message: format!(
                            "{name:?} is no name for a resource: use a lower-case letter, then letters, digits and - (63 at most)"
                        ),
                    });
                    continue;
                }
                let pointer = format!("/{}/{}", kind.section, name.replace('~', "~0").replace('/', "~1"));
                match entry(kind, fields) {
                    Ok(_) if inventory.resources.contains_key(name) => problems.push(BadParameters {
                        pointer,
                        message: format!("two resources are named {name:?}; names are unique across all sections"),
                    }),
                    Ok(entry) => {
                        inventory.resources.insert(name.clone(), entry);
                    }
                    Err(bad) => problems.push(BadParameters { pointer: format!("{pointer}{}", bad.pointer), message: bad.message }),
                }
            }
        }
        inventory.people = part(value, "people", &mut problems);
        inventory.policies = part(value, "policies", &mut problems);
        inventory.store = part(value, "store", &mut problems);
        inventory.store.check(&mut problems);
        inventory.check(&mut problems);
        if problems.is_empty() { Ok(inventory) } else { Err(problems) }
    }

    fn check(&self, problems: &mut Vec<BadParameters>) {
        let mut users: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, person) in &self.people {
            let Some(user) = person.system_user.as_deref() else {
                continue;
            };
            let pointer = format!("/people/{name}/system_user");
            if user == "root" {
                problems.push(BadParameters {
                    pointer,
                    message: "root is not a person: everybody can become root, so nobody could be held to it".into(),
                });
            } else if let Some(other) = users.insert(user, name) {
                problems.push(BadParameters {
                    pointer,
                    message: format!("{user:?} is already the system user of {other:?}; one user is one person"),
                });
            }
        }
        for (name, entry) in &self.resources {
            if let Some(other) = &entry.common.drill_as {
                let section = format!("/{}s/{name}/drill_as", entry.kind);
                match self.resources.get(other) {
                    None => problems.push(BadParameters { pointer: section, message: format!("there is no resource named {other:?}") }),
                    Some(stand_in) if stand_in.kind != entry.kind => problems.push(BadParameters {
                        pointer: section,
                        message: format!("{other:?} is a {}, {name:?} a {}", stand_in.kind, entry.kind),
                    }),
                    Some(_) => {}
                }
            }
        }
        for (place, program) in self.policies.programs.iter().enumerate() {
            if !program.is_absolute() {
                problems.push(BadParameters {
                    pointer: format!("/policies/programs/{place}"),
                    message: format!("{} is not an absolute path", program.display()),
                });
            }
        }
    }
}

/// Names of resources are also names of their locks.
fn is_resource_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 63
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn part<T: DeserializeOwned + Default>(value: &Value, key: &str, problems: &mut Vec<BadParameters>) -> T {
    let Some(found) = value.get(key) else {
        return T::default();
    };
    serde_json::from_value(found.clone()).unwrap_or_else(|error| {
        problems.push(BadParameters { pointer: format!("/{key}"), message: error.to_string() });
        T::default()
    })
}

fn entry(kind: &ResourceKind, fields: &Value) -> Result<ResourceEntry, BadParameters> {
    let empty = Map::new();
    let fields = fields.as_object().unwrap_or(&empty);
    let (common, own): (Map<_, _>, Map<_, _>) = fields.clone().into_iter().partition(|(key, _)| COMMON.contains(&key.as_str()));
    let common = serde_json::from_value(Value::Object(common))
        .map_err(|error| BadParameters { pointer: String::new(), message: error.to_string() })?;
    let own = Value::Object(own);
    let nodes = (kind.describe)(&own)?;
    Ok(ResourceEntry { kind: kind.kind, common, own, nodes })
}

/// JSON Schema (2020-12) of the whole inventory, for the reader and for editors.
#[must_use]
pub fn schema(kinds: &[ResourceKind]) -> Value {
    let root = |schema: schemars::Schema| schema.to_value();
    let generate = || SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let common = root(generate().into_root_schema_for::<CommonFields>());
    let mut definitions = Map::new();
    let mut properties = Map::new();
    properties.insert("lifeboat".into(), json!({ "const": "v1", "description": "Version of this file's format" }));
    for kind in kinds {
        let mut own = kind.schema.clone();
        hoist(&mut own, &mut definitions);
        if let (Some(own), Some(shared)) =
            (own.get_mut("properties").and_then(Value::as_object_mut), common.get("properties").and_then(Value::as_object))
        {
            own.extend(shared.clone());
        }
        properties.insert(kind.section.into(), json!({ "type": "object", "description": format!("Resources of the kind `{}`, by name", kind.kind), "additionalProperties": own }));
    }
    let mut shared = common.clone();
    hoist(&mut shared, &mut definitions);
    let mut person = root(generate().into_root_schema_for::<Person>());
    hoist(&mut person, &mut definitions);
    properties
        .insert("people".into(), json!({ "type": "object", "description": "People who may act, by name", "additionalProperties": person }));
    let mut policies = root(generate().into_root_schema_for::<Policies>());
    hoist(&mut policies, &mut definitions);
    properties.insert("policies".into(), policies);
    let mut store = root(generate().into_root_schema_for::<StoreChoice>());
    hoist(&mut store, &mut definitions);
    properties.insert("store".into(), store);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Lifeboat inventory",
        "type": "object",
        "required": ["lifeboat"],
        "additionalProperties": false,
        "properties": properties,
        "$defs": definitions,
    })
}

/// Moves a root schema's definitions to the shared place, where its references point too.
fn hoist(schema: &mut Value, definitions: &mut Map<String, Value>) {
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        if let Some(Value::Object(own)) = object.remove("$defs") {
            definitions.extend(own);
        }
    }
}

impl Resources for Inventory {
    fn names(&self) -> Vec<&str> {
        self.resources.keys().map(String::as_str).collect()
    }

    fn resource(&self, name: &str) -> Option<ResourceInfo> {
        let entry = self.resources.get(name)?;
        let drill = match (&entry.common.drill_as, entry.common.drill) {
            (Some(other), _) => DrillPolicy::As(other.clone()),
            (None, DrillRule::Allow) => DrillPolicy::Allow,
            (None, DrillRule::Deny) => DrillPolicy::Deny,
        };
        Some(ResourceInfo {
            name: name.to_owned(),
            kind: entry.kind.to_owned(),
            nodes: entry.nodes.clone(),
            region: entry.common.region.clone(),
            depends_on: entry.common.depends_on.clone(),
            drill,
            identity: json!({ "kind": entry.kind, "own": entry.own, "region": entry.common.region }),
        })
    }

    fn roles(&self) -> Vec<&str> {
        let mut roles: Vec<&str> = self.people.values().flat_map(|person| person.roles.iter().map(String::as_str)).collect();
        roles.sort_unstable();
        roles.dedup();
        roles
    }
}
