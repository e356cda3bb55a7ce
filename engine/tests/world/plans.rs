//! Plans, inventory and people of the tests, written so that a test reads aloud.

use std::collections::BTreeMap;

use lifeboat_engine::inventory::{CommonFields, DrillRule, Inventory, Person, ResourceEntry};
use lifeboat_engine::journal::Actor;
use lifeboat_engine::registry::Registry;
use lifeboat_engine::{Effect, StepId, Touch};
use lifeboat_runbooks::catalog::Resources;
use lifeboat_runbooks::plan::{
    ErrorClass, Objectives, OnFailure, PLAN_FORMAT, Places, Plan, PlanStep, Retry, Return, UndoRule, WrittenUndo,
};
use lifeboat_runbooks::{PlanRequest, Source};
use lifeboat_store::Digest;
use serde_json::{Value, json};

use super::steps::{Change, FenceDb, Look, Note, Poke, PromoteDb, UpdateDns, VERSION};

pub(crate) fn id(text: &str) -> StepId {
    StepId::new(text).unwrap()
}

/// A step being written.
#[derive(Clone, Debug)]
pub(crate) struct Draft(PlanStep);

fn draft(name: &str, step_type: &str) -> Draft {
    Draft(PlanStep {
        id: id(name),
        step_type: step_type.into(),
        version: VERSION,
        with: json!({}),
        needs: Vec::new(),
        condition: None,
        asserts: Vec::new(),
        timeout_ms: 10_000,
        retry: Retry { attempts: 1, backoff_min_ms: 1000, backoff_max_ms: 8000, on: None },
        undo: UndoRule::Default,
        on_failure: None,
        point_of_no_return: Return::Possible,
        touches: Vec::new(),
        preview: String::new(),
        line: 1,
        scope: None,
        inner: None,
        structure: String::new(),
    })
}

/// A step that changes the resource `db`, unless it says otherwise.
pub(crate) fn change(name: &str) -> Draft {
    draft(name, "change").on("db")
}

/// A step that may change anything, because it does not say what.
pub(crate) fn blind(name: &str) -> Draft {
    draft(name, "change")
}

/// A step that acts on a part of a simulated peer.
fn on_peer(name: &str, step_type: &str, on: (&str, &str), what: (&str, &str)) -> Draft {
    let mut step = draft(name, step_type).with(on.0, json!(on.1)).with(what.0, json!(what.1));
    step.0.touches = vec![Touch { resource: on.1.into(), effect: Effect::Change }];
    step
}

/// Keeps a node of `db` from taking writes.
pub(crate) fn fence(name: &str, node: &str) -> Draft {
    on_peer(name, "fence-db", ("db", "db"), ("node", node))
}

/// Makes a node of `db` take writes.
pub(crate) fn promote(name: &str, node: &str) -> Draft {
    on_peer(name, "promote-db", ("db", "db"), ("node", node))
}

/// Makes `dns` answer something else.
pub(crate) fn point(name: &str, to: &str) -> Draft {
    on_peer(name, "update-dns", ("record", "dns"), ("to", to))
}

/// A step that looks at nothing in particular.
pub(crate) fn look(name: &str) -> Draft {
    draft(name, "look")
}

/// A step that changes the resource `db`, behind a gate that only glances.
pub(crate) fn poke(name: &str) -> Draft {
    draft(name, "poke").on("db")
}

/// A step whose gate looks at nothing.
pub(crate) fn note(name: &str) -> Draft {
    draft(name, "note")
}

/// A question to people with the role `dba`.
pub(crate) fn approval(name: &str, count: u32) -> Draft {
    let mut step = draft(name, "approval").with("roles", json!(["dba"])).with("count", json!(count)).with("timeout", json!("10m"));
    step.0.version = 1;
    step.with("show", json!({"lag": "3s"}))
}

impl Draft {
    pub(crate) fn with(mut self, key: &str, value: Value) -> Self {
        self.0.with[key] = value;
        self
    }

    pub(crate) fn on(self, resource: &str) -> Self {
        let effect = if ["change", "poke"].contains(&self.0.step_type.as_str()) { Effect::Change } else { Effect::Read };
        let mut step = self.with("on", json!(resource));
        step.0.touches = vec![Touch { resource: resource.into(), effect }];
        step
    }

    /// It only protects what it acts on, as a backup does.
    pub(crate) fn protects(mut self) -> Self {
        self.0.touches.iter_mut().for_each(|touch| touch.effect = Effect::Protect);
        self
    }

    pub(crate) fn after(mut self, needs: &[&str]) -> Self {
        self.0.needs = needs.iter().map(|need| id(need)).collect();
        self
    }

    pub(crate) fn when(mut self, condition: &str) -> Self {
        self.0.condition = Some(condition.into());
        self
    }

    pub(crate) fn says(self, value: Value) -> Self {
        self.with("say", value)
    }

    pub(crate) fn asserts(mut self, assertion: &str) -> Self {
        self.0.asserts.push(assertion.into());
        self
    }

    pub(crate) fn tries(mut self, attempts: u32) -> Self {
        self.0.retry.attempts = attempts;
        self
    }

    pub(crate) fn tries_on(mut self, classes: &[ErrorClass]) -> Self {
        self.0.retry.on = Some(classes.to_vec().into());
        self
    }

    pub(crate) fn timeout_ms(mut self, timeout: u64) -> Self {
        self.0.timeout_ms = timeout;
        self
    }

    pub(crate) fn on_failure(mut self, rule: OnFailure) -> Self {
        self.0.on_failure = Some(rule);
        self
    }

    pub(crate) fn no_return(mut self) -> Self {
        self.0.point_of_no_return = Return::NoReturn;
        self
    }

    pub(crate) fn stays(mut self) -> Self {
        self.0.undo = UndoRule::Never;
        self
    }

    /// This draft is what takes it back, in place of its type's own undo.
    pub(crate) fn undone_by(mut self, undo: Self) -> Self {
        let PlanStep { step_type, version, with, timeout_ms, touches, .. } = undo.0;
        let preview = format!("{step_type} back");
        self.0.undo = UndoRule::Written(Box::new(WrittenUndo { step_type, version, with, timeout_ms, touches, preview }));
        self
    }

    pub(crate) fn version(mut self, version: u16) -> Self {
        self.0.version = version;
        self
    }

    pub(crate) fn of_type(mut self, step_type: &str) -> Self {
        self.0.step_type = step_type.into();
        self
    }
}

/// A plan of these steps, in mode `failover`, holding on failure.
pub(crate) fn plan(steps: impl IntoIterator<Item = Draft>) -> Plan {
    Plan {
        format: PLAN_FORMAT,
        runbook: "orders".into(),
        title: "Orders".into(),
        owner: None,
        objectives: Objectives::default(),
        mode: "failover".into(),
        inputs: BTreeMap::new(),
        on_failure: OnFailure::Hold,
        deadline_ms: None,
        steps: steps.into_iter().map(|draft| draft.0).collect(),
        finally: Vec::new(),
        scopes: Vec::new(),
        resources: BTreeMap::new(),
        structure: String::new(),
        binding: String::new(),
        places: Places::default(),
    }
}

/// More about a plan.
pub(crate) trait PlanWords: Sized {
    fn finally(self, steps: impl IntoIterator<Item = Draft>) -> Self;
    fn failing(self, rule: OnFailure) -> Self;
    fn mode(self, mode: &str) -> Self;
    fn deadline_ms(self, deadline: u64) -> Self;
    /// Pins what the inventory says of the touched resources.
    fn bound_to(self, inventory: &Inventory) -> Self;
}

impl PlanWords for Plan {
    fn finally(mut self, steps: impl IntoIterator<Item = Draft>) -> Self {
        self.finally = steps.into_iter().map(|draft| draft.0).collect();
        self
    }

    fn failing(mut self, rule: OnFailure) -> Self {
        self.on_failure = rule;
        self
    }

    fn mode(mut self, mode: &str) -> Self {
        self.mode = mode.into();
        self
    }

    fn deadline_ms(mut self, deadline: u64) -> Self {
        self.deadline_ms = Some(deadline);
        self
    }

    fn bound_to(mut self, inventory: &Inventory) -> Self {
        for (_, touch) in self.steps.iter().chain(&self.finally).flat_map(PlanStep::grips) {
            if let Some(found) = inventory.resource(&touch.resource) {
                self.resources.insert(touch.resource.clone(), found.identity);
            }
        }
        for step in self.steps.iter_mut().chain(&mut self.finally) {
            // As planning does it: the step as written, whatever resources stand in.
            step.structure.clear();
            step.structure = Digest::of(&serde_json::to_vec(&step).unwrap()).to_string().chars().take(32).collect();
        }
        self.structure = Digest::of(&serde_json::to_vec(&self.steps).unwrap()).to_string();
        self.binding = Digest::of(&serde_json::to_vec(&(&self.steps, &self.finally, &self.resources, &self.mode)).unwrap()).to_string();
        self
    }
}

/// The plan of a runbook with these steps and other keys, and of its children.
pub(crate) fn planned(root: &str, children: &[(&str, &str)]) -> Plan {
    let text = |rest: &str| format!("lifeboat: v1\nname: t\n{rest}");
    let files: BTreeMap<String, String> = children.iter().map(|(name, rest)| ((*name).to_owned(), text(rest))).collect();
    let source = Source { name: "t.yaml".into(), text: text(root).into() };
    let (runbook, problems) = lifeboat_runbooks::load(&source, &files);
    assert_eq!(problems, []);
    let made = lifeboat_runbooks::plan(&runbook.unwrap(), &PlanRequest::default(), &registry(), &inventory());
    made.unwrap_or_else(|problems| panic!("{problems:#?}"))
}

pub(crate) fn registry() -> Registry {
    Registry::new().with::<Change>().with::<Look>().with::<Note>().with::<Poke>().with::<FenceDb>().with::<PromoteDb>().with::<UpdateDns>()
}

/// A thing at an address.
pub(crate) fn thing(address: &str, drill: DrillRule) -> ResourceEntry {
    ResourceEntry {
        kind: "thing",
        common: CommonFields { drill, ..CommonFields::default() },
        own: json!({ "address": address }),
        nodes: Vec::new(),
    }
}

/// Resources `db`, `dns`, `web` and `app` (open to drills), and people: sam starts runs; ann, bob and dan are dbas, cyd is not.
pub(crate) fn inventory() -> Inventory {
    let mut inventory = Inventory::default();
    inventory.resources.insert("db".into(), thing("10.0.0.1", DrillRule::Deny));
    inventory.resources.insert("dns".into(), thing("10.0.0.2", DrillRule::Deny));
    inventory.resources.insert("web".into(), thing("10.0.0.3", DrillRule::Allow));
    inventory.resources.insert("app".into(), thing("10.0.0.4", DrillRule::Allow));
    for (name, role) in [("sam", "dba"), ("ann", "dba"), ("bob", "dba"), ("dan", "dba"), ("cyd", "web")] {
        let person = Person { roles: vec![role.into()], system_user: Some(format!("u-{name}")), telegram_id: None };
        inventory.people.insert(name.into(), person);
    }
    inventory
}

pub(crate) fn actor(name: &str) -> Actor {
    Actor { person: Some(name.into()), system_user: format!("u-{name}"), via: "terminal".into() }
}
