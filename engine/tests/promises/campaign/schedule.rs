//! Schedules: which fault strikes which life of which run at which point. All of first order, or one by its seed.

use lifeboat_engine::sim::{Fault, Point};

use super::chance::Chance;
use super::shapes::{Shape, shapes};

/// How many machines share the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machines {
    /// One: a successor starts when the process before is gone.
    One,
    /// Several: a successor stands by, and takes over by the lease.
    Several,
}

/// Who looks at the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowd {
    /// Those of the shape, who always do the same.
    Scripted,
    /// People with a seed, who answer, refuse, resolve and cancel as they like, also where they may not.
    Random(u64),
}

/// One fault: in the `life`th process of the `run`th run, at its `point`th point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strike {
    pub(crate) run: usize,
    pub(crate) life: usize,
    pub(crate) point: usize,
    pub(crate) fault: Fault,
}

/// What happens beside the shape's own script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) machines: Machines,
    pub(crate) crowd: Crowd,
    pub(crate) strikes: Vec<Strike>,
}

impl Schedule {
    pub(crate) fn calm() -> Self {
        Self { machines: Machines::One, crowd: Crowd::Scripted, strikes: Vec::new() }
    }
}

/// Short enough that no call times out over it, long enough that timers are late.
const SHORT_S: u32 = 3;

/// Longer than the lease, the margin and every step's time together.
const LONG_S: u32 = 120;

/// Longer than the lease, shorter than lease and a step's time: the overtaken process wakes while the successor still waits.
const MEDIUM_S: u32 = 20;

/// What can strike at a point of this kind.
pub(crate) fn faults_at(point: Point, machines: Machines) -> Vec<Fault> {
    let mut faults = vec![Fault::DieBefore, Fault::DieAfter, Fault::FailedUnwritten, Fault::FailedWritten];
    faults.extend([Fault::PauseBefore(SHORT_S), Fault::PauseAfter(SHORT_S), Fault::StepWall(3600), Fault::StepWall(-3600)]);
    if point == Point::Commit {
        faults.push(Fault::DiskFull);
    }
    if machines == Machines::Several {
        faults.extend([Fault::PauseBefore(MEDIUM_S), Fault::PauseAfter(MEDIUM_S), Fault::PauseBefore(LONG_S), Fault::PauseAfter(LONG_S)]);
    }
    faults
}

/// Every single fault at every point that the undisturbed run comes to.
pub(crate) fn first_order(shape: &Shape, points: &[Point]) -> Vec<Schedule> {
    let mut all = Vec::new();
    let machines = [Machines::One, Machines::Several];
    for machines in machines.into_iter().filter(|machines| *machines == Machines::Several || !shape.outlives) {
        for (point, kind) in points.iter().enumerate() {
            for fault in faults_at(*kind, machines) {
                all.push(Schedule { machines, crowd: Crowd::Scripted, strikes: vec![Strike { run: 0, life: 0, point, fault }] });
            }
        }
    }
    all
}

/// Points that a resumed life may come to beyond those of the undisturbed run: it claims and looks first.
const MORE_POINTS: usize = 3;

/// Every death at every point, and then every death at every point of the life that resumes.
pub(crate) fn deaths_while_resuming(shape: &Shape, points: &[Point]) -> impl Iterator<Item = Schedule> {
    const DEATHS: [Fault; 2] = [Fault::DieBefore, Fault::DieAfter];
    let machines = if shape.outlives { Machines::Several } else { Machines::One };
    let count = points.len();
    let first = (0..count).flat_map(|point| DEATHS.map(|fault| Strike { run: 0, life: 0, point, fault }));
    first.flat_map(move |first| {
        let second = (0..count + MORE_POINTS).flat_map(|point| DEATHS.map(|fault| Strike { run: 0, life: 1, point, fault }));
        second.map(move |second| Schedule { machines, crowd: Crowd::Scripted, strikes: vec![first, second] })
    })
}

/// The shape and schedule of a seed: two or three faults in lives that follow each other, sometimes with people of their own mind.
/// `points` says how many points the undisturbed run of a shape comes to.
pub(crate) fn of_seed(seed: u64, only: Option<usize>, points: &[Vec<Point>]) -> (usize, Schedule) {
    let mut chance = Chance::of(seed);
    let place = chance.below(shapes().len());
    let place = only.unwrap_or(place);
    let machines = chance.one_of(&[Machines::One, Machines::Several]);
    let machines = if shapes()[place].outlives { Machines::Several } else { machines };
    let crowd = if chance.percent(25) { Crowd::Random(chance.next()) } else { Crowd::Scripted };
    let mut strikes = Vec::new();
    let known = &points[place];
    for life in 0..2 + chance.below(2) {
        // A second fault in one life now and then: what heals one can break on the other.
        for _ in 0..1 + usize::from(chance.percent(20)) {
            let point = chance.below(known.len().max(1));
            let kind = known.get(point).copied().unwrap_or(Point::Commit);
            // Where two runs meet, either may be struck.
            let run = usize::from(shapes()[place].second.is_some() && chance.percent(50));
            strikes.push(Strike { run, life, point, fault: chance.one_of(&faults_at(kind, machines)) });
        }
    }
    (place, Schedule { machines, crowd, strikes })
}

/// Whether the run has to end as the undisturbed one does.
///
/// It has to, under deaths, failed and torn writes, a full disk and lost messages, always. Under a standstill, a stepped clock and with
/// several machines, where a wait of at least a lease may come in: unless the shape has a window of time of its own (an approval that
/// expires, a deadline), because then being late or early has to change the outcome. A shape whose branches race, and one with people of their own
/// mind, need not.
pub(crate) fn must_end_alike(shape: &Shape, schedule: &Schedule) -> bool {
    let late = |fault: Fault| match fault {
        Fault::DieBefore | Fault::DieAfter | Fault::FailedUnwritten | Fault::FailedWritten | Fault::DiskFull => false,
        Fault::PauseBefore(_) | Fault::PauseAfter(_) | Fault::StepWall(_) => true,
    };
    let long = |fault: Fault| matches!(fault, Fault::PauseBefore(seconds) | Fault::PauseAfter(seconds) if seconds > SHORT_S);
    let any = |test: &dyn Fn(Fault) -> bool| schedule.strikes.iter().any(|strike| test(strike.fault));
    let pauses = schedule.strikes.iter().filter(|strike| matches!(strike.fault, Fault::PauseBefore(_) | Fault::PauseAfter(_))).count();
    match schedule.crowd {
        Crowd::Random(_) => false,
        Crowd::Scripted if shape.races => false,
        // Two short standstills in one call are a long one, and a call of a process that nobody takes over from may time out.
        Crowd::Scripted if schedule.machines == Machines::One && (any(&long) || pauses > 1) => false,
        Crowd::Scripted if pauses > 1 => false,
        Crowd::Scripted => !shape.has_window || !(any(&late) || schedule.machines == Machines::Several),
    }
}
