//! Who uses the processors: our CPU seconds and the machine's, from Linux's `/proc`.

use std::collections::{BTreeMap, BTreeSet};

use super::files::SensorFiles;

/// Ticks per second of `/proc` on every Linux (`USER_HZ`).
const TICKS_PER_S: f64 = 100.0;

/// CPU times are counted in these steps.
const TICK_S: f64 = 1.0 / TICKS_PER_S;
const HALF_A_TICK_S: f64 = 0.5 / TICKS_PER_S;

/// Reading the CPU times takes longer.
const LEAST_S: f64 = 1e-5;

/// Seconds over which the use of others is measured, so that ticks matter little.
const OTHERS_S: f64 = 0.5;

/// A parent that counts a child may round it down by some ticks, which are not lost.
const ROUNDING_S: f64 = 0.03;

/// How often a tree from which time was lost is looked at again.
const LOOKS: usize = 2;

/// Processes of a tree that are looked at; more are left out.
const MAX_PROCESSES: usize = 4096;

/// Whose work is ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scope {
    /// This process.
    #[default]
    Process,
    /// This process and everything it starts.
    Tree,
    /// Everything that runs on the machine.
    Machine,
}

/// CPU seconds since the machine, or the process, started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct CpuTimes {
    /// Ours; none if unknown.
    pub(super) ours_s: Option<f64>,
    /// Of everything that runs; none if unknown.
    pub(super) busy_s: Option<f64>,
}

/// What happened in an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Load {
    /// Our CPU seconds.
    pub(super) ours_s: f64,
    /// Our CPU seconds over the machine's, in 0..=1.
    pub(super) share: f64,
    /// The bounds of this share: CPU times are counted in ticks.
    pub(super) share_bounds: [f64; 2],
    /// The share of the processors' time that is used, in 0..=1.
    pub(super) utilization: f64,
}

/// Reads CPU times.
#[derive(Debug)]
pub(super) struct LoadReader {
    scope: Scope,
    n_cpus: usize,
    last: CpuTimes,
    /// How much others use, from an interval that is long enough for ticks.
    others: Others,
    /// CPU seconds of processes of the tree that nobody waited for: they are in no count any more.
    lost_s: f64,
    /// The processes of the tree at the last look.
    tree: Tree,
    /// Their CPU seconds so far, with those that ended.
    tree_s: f64,
}

/// The processors that others use, measured over at least [`OTHERS_S`].
#[derive(Debug, Default)]
struct Others {
    /// The mean number; none until it was measured.
    rate: Option<f64>,
    ours_s: f64,
    busy_s: f64,
    seconds: f64,
}

impl Others {
    /// Counts an interval.
    fn add(&mut self, ours_s: f64, busy_s: f64, seconds: f64) {
        self.ours_s += ours_s;
        self.busy_s += busy_s;
        self.seconds += seconds;
        if self.seconds >= OTHERS_S {
            let rate = ((self.busy_s - self.ours_s) / self.seconds).max(0.0);
            *self = Self {
                rate: Some(rate),
                ..Self::default()
            };
        }
    }
}

impl LoadReader {
    pub(super) fn new(files: &dyn SensorFiles, scope: Scope, n_cpus: usize) -> Self {
        let mut reader = Self {
            scope,
            n_cpus,
            last: CpuTimes::default(),
            others: Others::default(),
            lost_s: 0.0,
            tree: Tree::new(),
            tree_s: 0.0,
        };
        reader.last = reader.times(files);
        reader
    }

    /// Whether the machine's CPU time is known, without which other load is not seen.
    pub(super) fn sees_the_machine(&self) -> bool {
        self.last.busy_s.is_some()
    }

    /// Whether our own CPU time is known.
    pub(super) fn sees_us(&self) -> bool {
        self.last.ours_s.is_some()
    }

    /// The CPU seconds of processes that ended without a parent that waited for them, up to the last time that they were seen.
    pub(super) fn lost_s(&self) -> f64 {
        self.lost_s
    }

    /// The load of the interval that ends now.
    pub(super) fn advance(&mut self, files: &dyn SensorFiles, interval_s: f64) -> Load {
        let is_exact = self.scope == Scope::Process && files.process_cpu_s().is_some();
        let now = self.times(files);
        let difference = |now: Option<f64>, last: Option<f64>| Some((now? - last?).max(0.0));
        let ours = difference(now.ours_s, self.last.ours_s);
        let busy = difference(now.busy_s, self.last.busy_s);
        self.last = CpuTimes {
            ours_s: now.ours_s.or(self.last.ours_s),
            busy_s: now.busy_s.or(self.last.busy_s),
        };
        let capacity_s = self.n_cpus as f64 * interval_s;
        // How far our seconds and the machine's may be off.
        let ticks = [if is_exact { 0.0 } else { TICK_S }, TICK_S];
        match (self.scope, ours, busy) {
            (Scope::Machine, _, busy) => {
                let busy = busy.unwrap_or(capacity_s).max(HALF_A_TICK_S);
                self.load(busy, busy, capacity_s, [0.0; 2])
            }
            (_, Some(ours), Some(busy)) => {
                let counted = self.machine_seconds(ours, busy, interval_s);
                // A tick is 10 ms: work that is shorter is real too, and must not become a zero.
                let ours = ours.max(if is_exact { LEAST_S } else { HALF_A_TICK_S });
                self.load(ours, counted.max(ours), capacity_s, ticks)
            }
            // What else runs is not known.
            (_, Some(ours), None) => {
                let ours = ours.max(HALF_A_TICK_S);
                self.load(ours, ours, capacity_s, [0.0; 2])
            }
            // Nothing is known: as if the machine worked for us alone.
            (_, None, _) => self.load(capacity_s, capacity_s, capacity_s, [0.0; 2]),
        }
    }

    /// The CPU seconds of everything that ran. Ticks say little about a short interval: others are then taken to use what they used before.
    fn machine_seconds(&mut self, ours_s: f64, busy_s: f64, interval_s: f64) -> f64 {
        let rate = self.others.rate.filter(|_| interval_s < OTHERS_S);
        self.others.add(ours_s, busy_s, interval_s);
        rate.map_or(busy_s, |rate| ours_s + rate * interval_s)
    }

    fn load(&self, ours_s: f64, busy_s: f64, capacity_s: f64, [of_ours, of_busy]: [f64; 2]) -> Load {
        let share = |ours: f64, busy: f64| if busy > 0.0 { (ours / busy).clamp(0.0, 1.0) } else { 1.0 };
        let (least, most) = ((ours_s - of_ours).max(LEAST_S.min(ours_s)), ours_s + of_ours);
        Load {
            ours_s: ours_s.min(capacity_s),
            share: share(ours_s, busy_s),
            share_bounds: [
                share(least, busy_s + of_busy),
                share(most, (busy_s - of_busy).max(most)),
            ],
            utilization: if capacity_s > 0.0 {
                (busy_s / capacity_s).clamp(0.0, 1.0)
            } else {
                0.0
            },
        }
    }

    fn times(&mut self, files: &dyn SensorFiles) -> CpuTimes {
        let of_machine = files.read("proc/stat").ok();
        let busy_s = of_machine.and_then(|text| busy_seconds(&text));
        let ours_s = match self.scope {
            Scope::Machine => busy_s,
            Scope::Process => files
                .process_cpu_s()
                .or_else(|| files.read("proc/self/stat").ok().and_then(|text| cpu_seconds(&text))),
            Scope::Tree => self.tree_seconds(files),
        };
        CpuTimes { ours_s, busy_s }
    }

    /// The CPU seconds of this process and its descendants, with those that ended. The parent that waited for a process counts its time; what
    /// nobody waited for keeps the time that it had when it was last seen.
    fn tree_seconds(&mut self, files: &dyn SensorFiles) -> Option<f64> {
        let mut tree = look(files)?;
        let mut lost_s = lost_between(&self.tree, &tree);
        // Between the end of a process and its parent's wait it may be in neither count, which is over at the next look.
        for _ in 0..LOOKS {
            if lost_s <= 0.0 {
                break;
            }
            tree = look(files)?;
            lost_s = lost_between(&self.tree, &tree);
        }
        self.lost_s += lost_s;
        let living_s: f64 = tree.values().flatten().sum();
        self.tree = tree;
        self.tree_s = self.tree_s.max(living_s + self.lost_s);
        Some(self.tree_s)
    }
}

/// The CPU seconds of processes by their number: their own, and those of their children that ended and were waited for.
type Tree = BTreeMap<String, [f64; 2]>;

/// The CPU seconds of processes that ended between two looks and that no parent has counted since.
fn lost_between(before: &Tree, now: &Tree) -> f64 {
    let ended = before.iter().filter(|(process, _)| !now.contains_key(*process));
    let ended_s: f64 = ended
        .map(|(_, [own, waited])| (own + waited - ROUNDING_S).max(0.0))
        .sum();
    let counted = now.iter().map(|(process, [_, waited])| {
        let earlier = before.get(process).map_or(0.0, |[_, waited]| *waited);
        (waited - earlier).max(0.0)
    });
    (ended_s - counted.sum::<f64>()).max(0.0)
}

/// This process and its descendants; none where the system does not say.
fn look(files: &dyn SensorFiles) -> Option<Tree> {
    let mut waiting = vec!["self".to_owned()];
    let mut seen = BTreeSet::new();
    let mut tree = Tree::new();
    while let Some(process) = waiting.pop() {
        if seen.len() >= MAX_PROCESSES || !seen.insert(process.clone()) {
            continue;
        }
        let stat = files.read(&format!("proc/{process}/stat")).ok();
        // It may have ended since it was listed.
        let Some(times) = stat.and_then(|text| cpu_times(&text)) else {
            continue;
        };
        for task in files.list(&format!("proc/{process}/task")) {
            let children = files.read(&format!("proc/{process}/task/{task}/children"));
            waiting.extend(children.unwrap_or_default().split_whitespace().map(str::to_owned));
        }
        tree.insert(process, times);
    }
    (!tree.is_empty()).then_some(tree)
}

/// The CPU seconds of all processors that did work: user, nice, system, interrupts. Guests are part of user; stolen time was somebody else's.
pub(super) fn busy_seconds(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<f64> = line.split_whitespace().map_while(|it| it.parse().ok()).collect();
    let at = |index: usize| fields.get(index).copied().unwrap_or(0.0);
    let busy = at(0) + at(1) + at(2) + at(5) + at(6);
    // A container's file may be there and empty of numbers.
    let total = busy + at(3) + at(4);
    (total > 0.0).then_some(busy / TICKS_PER_S)
}

/// How many processors `/proc/stat` lists.
pub(super) fn n_cpus(stat: &str) -> usize {
    let is_cpu = |line: &&str| {
        let number = line.strip_prefix("cpu").and_then(|rest| rest.chars().next());
        number.is_some_and(|character| character.is_ascii_digit())
    };
    stat.lines().filter(is_cpu).count()
}

/// The CPU seconds of a process and of its children that ended and were waited for.
pub(super) fn cpu_seconds(stat: &str) -> Option<f64> {
    cpu_times(stat).map(|times| times.iter().sum())
}

/// The same apart (proc_pid_stat(5), fields 14 to 17).
fn cpu_times(stat: &str) -> Option<[f64; 2]> {
    // The name in parentheses may have spaces and parentheses itself.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_whitespace().skip(11).map_while(|it| it.parse::<f64>().ok());
    let mut two = || Some((ticks.next()? + ticks.next()?) / TICKS_PER_S);
    Some([two()?, two()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_seconds_are_read_in_spite_of_the_name() {
        let stat = "42 (a) b (c)) S 1 1 1 0 -1 0 0 0 0 0 250 50 100 25 20 0 1 0 5 0";
        assert_eq!(cpu_seconds(stat), Some(4.25));
        assert_eq!(cpu_seconds("42 (short) S 1 2"), None);
    }

    #[test]
    fn waiting_and_stolen_time_is_not_busy() {
        let stat = "cpu  100 20 30 1000 500 5 5 900 40 0\ncpu0 1 1 1 1\ncpu1 1 1 1 1\nintr 5\n";
        assert_eq!(busy_seconds(stat), Some(1.6));
        assert_eq!(n_cpus(stat), 2);
        assert_eq!(busy_seconds("cpu  0 0 0 0 0 0 0\n"), None);
    }
}
