//! The plans of runs in this process, each held once: thousands of runs of one runbook share it. A plan never changes under its digest, so it
//! does not matter who made it or read it first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use lifeboat_runbooks::plan::Plan;
use lifeboat_store::Digest;

static SHELF: Mutex<Shelf> = Mutex::new(Shelf { plans: BTreeMap::new(), cleared_at: SHELF_MIN });

/// Plans that are gone are cleared away when there are so many entries, or twice as many as were alive at the last time.
const SHELF_MIN: usize = 64;

struct Shelf {
    plans: BTreeMap<Digest, Weak<Plan>>,
    cleared_at: usize,
}

/// The plan of this digest, if a run of this process has it.
pub(crate) fn known(digest: &Digest) -> Option<Arc<Plan>> {
    shelf(|shelf| shelf.plans.get(digest)?.upgrade())
}

/// The plan of this digest as all runs of this process have it.
pub(crate) fn shared(digest: Digest, plan: Plan) -> Arc<Plan> {
    shelf(|shelf| {
        if let Some(known) = shelf.plans.get(&digest).and_then(Weak::upgrade) {
            return known;
        }
        let plan = Arc::new(plan);
        shelf.plans.insert(digest, Arc::downgrade(&plan));
        if shelf.plans.len() >= shelf.cleared_at {
            shelf.plans.retain(|_, plan| plan.strong_count() > 0);
            shelf.cleared_at = (shelf.plans.len() * 2).max(SHELF_MIN);
        }
        plan
    })
}

fn shelf<T>(look: impl FnOnce(&mut Shelf) -> T) -> T {
    // A map is whole after every single operation.
    look(&mut SHELF.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let text = "lifeboat: v1\nname: shared\nsteps:\n  - id: ask\n    type: approval\n    with: { roles: [\"${{ 'oncall' }}\"], count: 1, timeout: 10m }\n";
        let source = lifeboat_runbooks::diagnostic::Source { name: "test".into(), text: text.into() };
        let (runbook, problems) = lifeboat_runbooks::parse(&source);
        let request = lifeboat_runbooks::PlanRequest::default();
        let inventory = crate::inventory::Inventory::default();
        lifeboat_runbooks::plan(&runbook.unwrap_or_else(|| panic!("{problems:?}")), &request, &crate::Registry::new(), &inventory).unwrap()
    }

    #[test]
    fn runs_of_one_plan_share_it_and_a_plan_that_no_run_has_is_forgotten() {
        let digest = Digest::of(b"the plan of this test");
        let first = shared(digest, plan());
        assert!(Arc::ptr_eq(&first, &shared(digest, plan())));
        assert!(known(&digest).is_some_and(|known| Arc::ptr_eq(&first, &known)));
        drop(first);
        assert!(known(&digest).is_none());
    }

    #[test]
    fn runs_of_one_plan_share_what_the_plan_alone_decides_and_another_plan_gets_its_own() {
        let (one, other) = (Arc::new(plan()), Arc::new(plan()));
        let run = |plan: &Arc<Plan>| crate::run::Run::new(crate::journal::RunId::new("a").unwrap(), Arc::clone(plan));
        let (first, second, third) = (run(&one), run(&one), run(&other));
        assert!(first.index().shares_with(second.index()));
        assert!(!first.index().shares_with(third.index()));
        assert_eq!(first.index(), third.index());
    }

    #[test]
    fn parameters_as_the_plan_has_them_are_shared_and_others_are_not() {
        let plan = Arc::new(plan());
        let run = || crate::run::Run::new(crate::journal::RunId::new("a").unwrap(), Arc::clone(&plan));
        let (first, second, step) = (run(), run(), &plan.steps[0]);
        let with = |run: &crate::run::Run, with: &serde_json::Value| run.index().with(&plan, &step.id, with);
        assert!(Arc::ptr_eq(&with(&first, &step.with), &with(&second, &step.with)));
        assert_eq!(*with(&first, &step.with), step.with);
        let filled = serde_json::json!({ "roles": ["oncall"] });
        assert_eq!(*with(&first, &filled), filled);
        assert_eq!(*with(&second, &step.with), step.with);
    }

    #[test]
    fn the_shelf_does_not_grow_with_plans_that_are_gone() {
        let plan = plan();
        let kept = shared(Digest::of(b"kept"), plan.clone());
        for number in 0..1000u32 {
            drop(shared(Digest::of(&number.to_le_bytes()), plan.clone()));
        }
        assert!(shelf(|shelf| shelf.plans.len()) < 4 * SHELF_MIN);
        drop(kept);
    }
}
