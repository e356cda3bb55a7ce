//! The step types and resource kinds that this binary knows, erased to one form for the executor and the language.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::census::Census;
use crate::context::{ReadContext, StepContext};
use crate::inventory::{Resource, ResourceKind};
use crate::measure::Measure;
use crate::step::{Facts, Gate, Observation, Readiness, Step, StepError};
use lifeboat_runbooks::catalog::{BadParameters, Catalog, Examined, StepTypeInfo};

/// A step type with its Rust types erased: parameters, intent and output are JSON.
#[async_trait]
pub trait StepType: fmt::Debug + Send + Sync {
    /// What is known without running it.
    fn info(&self) -> &StepTypeInfo;
    /// Reads parameters.
    ///
    /// # Errors
    /// Where they do not fit.
    fn examine(&self, with: &Value) -> Result<Examined, BadParameters>;
    /// What `prepare` looks at.
    fn gate(&self) -> Gate;
    /// What an output says of recovery time and data loss.
    ///
    /// # Errors
    /// Where the output is not one of this type's.
    fn measures(&self, output: &Value) -> Result<Vec<Measure>, String>;
    /// Whether executing it again only measures anew what it measured.
    fn measures_anew(&self) -> bool {
        false
    }
    /// What makes an output of now worse than the one that people were shown.
    ///
    /// # Errors
    /// Where an output is not one of this type's.
    fn worse(&self, _shown: &Value, _now: &Value) -> Result<Option<String>, String> {
        Ok(None)
    }
    /// [`Step::forbidden`].
    fn forbidden(&self, _known: &Value, _cx: &ReadContext) -> Option<String> {
        None
    }
    /// [`Step::prepare`].
    async fn prepare(&self, with: &Value, cx: &ReadContext) -> Result<Readiness<Value>, StepError>;
    /// [`Step::execute`].
    async fn execute(&self, with: &Value, intent: &Value, cx: &StepContext) -> Result<Value, StepError>;
    /// [`Step::observe`].
    async fn observe(&self, with: &Value, intent: &Value, cx: &ReadContext) -> Result<Observation<Value>, StepError>;
    /// [`Step::census`].
    async fn census(&self, resource: &str, cx: &ReadContext) -> Result<Census, StepError>;
    /// [`Step::undo`].
    async fn undo(&self, with: &Value, intent: &Value, done: &Value, cx: &StepContext) -> Result<(), StepError>;
}

struct Typed<S> {
    info: StepTypeInfo,
    step: std::marker::PhantomData<fn() -> S>,
}

impl<S: Step> fmt::Debug for Typed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StepType({})", S::TYPE)
    }
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T, BadParameters> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let pointer = error.path().iter().fold(String::new(), |mut pointer, segment| {
            use serde_path_to_error::Segment;
            match segment {
                Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
                Segment::Map { key } => pointer.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
                Segment::Enum { variant } => pointer.push_str(&format!("/{variant}")),
                Segment::Unknown => {}
            }
            pointer
        });
        BadParameters { pointer, message: error.inner().to_string() }
    })
}

fn parameters<S: Step>(with: &Value) -> Result<S, StepError> {
    read(with).map_err(|bad| StepError::hopeless(format!("parameters of {} do not fit at {:?}: {}", S::TYPE, bad.pointer, bad.message)))
}

fn journaled<T: DeserializeOwned>(what: &str, value: &Value) -> Result<T, StepError> {
    read(value).map_err(|bad| StepError::unknown(format!("the journaled {what} cannot be read at {:?}: {}", bad.pointer, bad.message)))
}

fn plain<T: Serialize>(what: &str, value: &T) -> Result<Value, StepError> {
    serde_json::to_value(value).map_err(|error| StepError::unknown(format!("the {what} cannot be written down: {error}")))
}

#[async_trait]
impl<S: Step> StepType for Typed<S> {
    fn info(&self) -> &StepTypeInfo {
        &self.info
    }

    fn examine(&self, with: &Value) -> Result<Examined, BadParameters> {
        let step: S = read(with)?;
        Ok(Examined { touches: step.touches(), preview: step.preview() })
    }

    fn gate(&self) -> Gate {
        S::GATE
    }

    fn measures(&self, output: &Value) -> Result<Vec<Measure>, String> {
        let output: S::Output = read(output).map_err(|bad| format!("at {:?}: {}", bad.pointer, bad.message))?;
        Ok(S::measures(&output))
    }

    fn measures_anew(&self) -> bool {
        match S::FACTS {
            Facts::Measured => self.info.effect == lifeboat_runbooks::names::Effect::Read,
            Facts::Fixed => false,
        }
    }

    fn worse(&self, shown: &Value, now: &Value) -> Result<Option<String>, String> {
        let output =
            |value: &Value| -> Result<S::Output, String> { read(value).map_err(|bad| format!("at {:?}: {}", bad.pointer, bad.message)) };
        Ok(S::worse(&output(shown)?, &output(now)?))
    }

    fn forbidden(&self, known: &Value, cx: &ReadContext) -> Option<String> {
        S::forbidden(known, cx)
    }

    async fn prepare(&self, with: &Value, cx: &ReadContext) -> Result<Readiness<Value>, StepError> {
        let step: S = parameters(with)?;
        Ok(match step.prepare(cx).await? {
            Readiness::Ready { intent, evidence } => Readiness::Ready { intent: plain("intent", &intent)?, evidence },
            Readiness::Refused { why, evidence } => Readiness::Refused { why, evidence },
            Readiness::Later { needs, evidence } => Readiness::Later { needs, evidence },
        })
    }

    async fn execute(&self, with: &Value, intent: &Value, cx: &StepContext) -> Result<Value, StepError> {
        let step: S = parameters(with)?;
        let intent: S::Intent = journaled("intent", intent)?;
        plain("output", &step.execute(&intent, cx).await?)
    }

    async fn observe(&self, with: &Value, intent: &Value, cx: &ReadContext) -> Result<Observation<Value>, StepError> {
        let step: S = parameters(with)?;
        let intent: S::Intent = journaled("intent", intent)?;
        Ok(match step.observe(&intent, cx).await? {
            Observation::Done(output) => Observation::Done(plain("output", &output)?),
            Observation::InProgress => Observation::InProgress,
            Observation::NotDone => Observation::NotDone,
            Observation::Foreign { evidence } => Observation::Foreign { evidence },
            Observation::Unknown { why } => Observation::Unknown { why },
        })
    }

    async fn census(&self, resource: &str, cx: &ReadContext) -> Result<Census, StepError> {
        S::census(resource, cx).await
    }

    async fn undo(&self, with: &Value, intent: &Value, done: &Value, cx: &StepContext) -> Result<(), StepError> {
        let step: S = parameters(with)?;
        step.undo(&journaled("intent", intent)?, journaled("output", done)?, cx).await
    }
}

/// Everything this binary can do. Built once, by one readable list in `lifeboat-steps`.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    steps: BTreeMap<&'static str, Arc<dyn StepType>>,
    kinds: Vec<ResourceKind>,
}

impl Registry {
    /// Empty but for the engine's own types (`approval`).
    #[must_use]
    pub fn new() -> Self {
        Self::default().with::<crate::approval::ApprovalStep>()
    }

    /// One more step type.
    ///
    /// # Panics
    /// Where two types have one name: our own mistake.
    #[must_use]
    pub fn with<S: Step>(mut self) -> Self {
        let with_schema = SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<S>().to_value();
        let output_schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<S::Output>().to_value();
        let summary = with_schema
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .split("\n\n")
            .next()
            .unwrap_or_default()
            .replace('\n', " ");
        let info =
            StepTypeInfo { name: S::TYPE, version: S::VERSION, summary, with_schema, output_schema, effect: S::EFFECT, undo: S::UNDO };
        let earlier = self.steps.insert(S::TYPE, Arc::new(Typed::<S> { info, step: std::marker::PhantomData }));
        assert!(earlier.is_none(), "two step types are named {}", S::TYPE);
        self
    }

    /// One more kind of resource.
    ///
    /// # Panics
    /// Where two kinds have one name or section: our own mistake.
    #[must_use]
    pub fn with_resource<R: Resource>(mut self) -> Self {
        assert!(
            self.kinds.iter().all(|kind| kind.kind != R::KIND && kind.section != R::SECTION),
            "two resource kinds are named {}",
            R::KIND
        );
        self.kinds.push(ResourceKind::of::<R>());
        self
    }

    /// Only these step types: nothing of the engine's own, no kinds of resource.
    pub(crate) fn of(types: impl IntoIterator<Item = Arc<dyn StepType>>) -> Self {
        Self { steps: types.into_iter().map(|step| (step.info().name, step)).collect(), kinds: Vec::new() }
    }

    /// The same names and kinds, with another thing behind each step type.
    pub(crate) fn mapped(&self, each: impl Fn(&Arc<dyn StepType>) -> Arc<dyn StepType>) -> Self {
        Self { steps: self.steps.iter().map(|(name, step)| (*name, each(step))).collect(), kinds: self.kinds.clone() }
    }

    /// A step type by name.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<&Arc<dyn StepType>> {
        self.steps.get(name)
    }

    /// Every step type, in order of name.
    pub fn steps(&self) -> impl Iterator<Item = &Arc<dyn StepType>> {
        self.steps.values()
    }

    /// The kinds of resource, in order of registration.
    #[must_use]
    pub fn kinds(&self) -> &[ResourceKind] {
        &self.kinds
    }
}

impl Catalog for Registry {
    fn step_types(&self) -> Vec<&StepTypeInfo> {
        self.steps.values().map(|step| step.info()).collect()
    }

    fn step_type(&self, name: &str) -> Option<&StepTypeInfo> {
        self.steps.get(name).map(|step| step.info())
    }

    fn examine(&self, name: &str, with: &Value) -> Result<Examined, BadParameters> {
        match self.steps.get(name) {
            Some(step) => step.examine(with),
            None => Err(BadParameters { pointer: String::new(), message: format!("no step type is named {name}") }),
        }
    }
}

/// Stands for a step type that a plan names and this binary does not have. Admission and resume refuse such plans; should one get
/// past them, it holds for a person.
#[derive(Debug)]
pub(crate) struct Missing {
    info: StepTypeInfo,
    name: String,
}

impl Missing {
    pub(crate) fn named(name: &str) -> Arc<dyn StepType> {
        let info = StepTypeInfo {
            name: "missing",
            version: 0,
            summary: String::new(),
            with_schema: Value::Null,
            output_schema: Value::Null,
            effect: lifeboat_runbooks::names::Effect::Destroy,
            undo: lifeboat_runbooks::catalog::Undoable::No,
        };
        Arc::new(Self { info, name: name.to_owned() })
    }

    fn error(&self) -> StepError {
        StepError::unknown(format!("this program has no step type {}", self.name))
    }
}

#[async_trait]
impl StepType for Missing {
    fn info(&self) -> &StepTypeInfo {
        &self.info
    }
    fn examine(&self, _: &Value) -> Result<Examined, BadParameters> {
        Err(BadParameters { pointer: String::new(), message: self.error().to_string() })
    }
    fn gate(&self) -> Gate {
        Gate::Looks
    }
    fn measures(&self, _: &Value) -> Result<Vec<Measure>, String> {
        Err(self.error().to_string())
    }
    async fn prepare(&self, _: &Value, _: &ReadContext) -> Result<Readiness<Value>, StepError> {
        Err(self.error())
    }
    async fn execute(&self, _: &Value, _: &Value, _: &StepContext) -> Result<Value, StepError> {
        Err(self.error())
    }
    async fn observe(&self, _: &Value, _: &Value, _: &ReadContext) -> Result<Observation<Value>, StepError> {
        Err(self.error())
    }
    async fn census(&self, _: &str, _: &ReadContext) -> Result<Census, StepError> {
        Err(self.error())
    }
    async fn undo(&self, _: &Value, _: &Value, _: &Value, _: &StepContext) -> Result<(), StepError> {
        Err(self.error())
    }
}
