//! The energy counters of processors and memory (RAPL) in Linux's `/sys/class/powercap`; AMD's are there too since Linux 5.8.
//!
//! A package contains its cores and its graphics, and the platform (`psys`) contains its packages, so one level is read and never two are
//! added. Memory (`dram`) is beside the package and is added. Some machines show a zone twice, through registers and through memory
//! (`intel-rapl-mmio`); it is counted once.

use super::counter::{Added, Basis, Oddity, TimedCounter};
use super::figure::{Energy, Power};
use super::files::{ReadError, SensorFiles};
use super::notes::Notes;
use super::units::Joule;

const DIRECTORY: &str = "sys/class/powercap";

/// Two counters that differ by less than this share are one counter under two names.
const MIRROR_TOLERANCE: f64 = 1e-6;

/// The errors of RAPL, and of what stands in for a failed reading, as shares.
const RAPL_ERROR: f64 = 0.05;
const STAND_IN_ERROR: f64 = 0.5;

/// A counter is brought up to date every millisecond; one that has not moved for this many seconds does not count.
const STILL_S: f64 = 0.005;

/// How to let everybody read the counters.
const RIGHTS: &str = "sudo chmod a+r /sys/class/powercap/*/energy_uj gives the right until the next start";

/// Which level of counters is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Level {
    /// The packages, and the memory next to them.
    #[default]
    Package,
    /// The platform, with everything in it.
    Platform,
}

/// What a zone measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Package,
    Memory,
    Platform,
}

#[derive(Debug)]
struct Zone {
    kind: Kind,
    /// Such as `package-0` or `package-0/dram`.
    name: String,
    path: String,
    counter: TimedCounter,
    /// The zone whose reading was equal to this one's last reading.
    equals: Option<usize>,
    is_dropped: bool,
}

/// The zones that are read.
#[derive(Debug)]
pub(super) struct Powercap {
    zones: Vec<Zone>,
}

/// The power that the model expects of the machine now: it stands in for counters that were never seen to count.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Expected {
    pub(super) processor: Power,
    pub(super) memory: Power,
}

/// What the zones of one kind added in an interval.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ZoneSum {
    pub(super) energy: Energy,
    /// Whether a counter has to do with it: it was read, or its power so far stands in.
    pub(super) is_measured: bool,
    /// Whether something stands in for a part.
    pub(super) is_estimated: bool,
}

/// What the zones added in an interval.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ZonesAdded {
    /// Packages, or the platform.
    pub(super) processor: ZoneSum,
    /// Memory; none if no zone measures it.
    pub(super) memory: Option<ZoneSum>,
}

impl ZoneSum {
    fn add(&mut self, added: &Added, expected: Power) {
        self.energy += match added.basis {
            Basis::Measured => Energy::measured(added.joules, RAPL_ERROR),
            Basis::PowerSoFar => Energy::measured(added.joules, STAND_IN_ERROR),
            // The joules are the expected power's, so its bounds hold in proportion.
            Basis::Ahead | Basis::Fallback => {
                let over =
                    |bound: super::units::Watt| added.joules * (bound.0 / expected.watts.0.max(f64::MIN_POSITIVE));
                Energy {
                    joules: added.joules,
                    low: over(expected.low),
                    high: over(expected.high),
                }
            }
        };
        self.is_measured |= added.basis != Basis::Fallback;
        self.is_estimated |= added.is_estimated();
    }
}

impl Powercap {
    /// Finds the zones and reads each once; none if there is none that this user may read.
    pub(super) fn find(files: &dyn SensorFiles, level: Level, now_s: f64, notes: &mut Notes) -> Option<Self> {
        let mut names = files.list(DIRECTORY);
        // Memory-mapped zones come first: of two with one name, the first is kept.
        names.sort_by_key(|name| (!name.contains("mmio"), name.clone()));
        let mut zones: Vec<Zone> = Vec::new();
        for name in names {
            let Some(zone) = Zone::open(files, &name, now_s, notes) else {
                continue;
            };
            let Some(other) = zones.iter_mut().find(|other| other.name == zone.name) else {
                zones.push(zone);
                continue;
            };
            notes.set(format!(
                "powercap shows the zone {} twice; it is counted once",
                zone.name
            ));
            if other.counter.is_unread() {
                *other = zone;
            }
        }
        let is_platform = |zone: &Zone| zone.kind == Kind::Platform && !zone.counter.is_unread();
        let has_platform = zones.iter().any(is_platform);
        if level == Level::Platform && !has_platform {
            let has_package = zones.iter().any(|zone| zone.kind == Kind::Package);
            notes.set(match has_package {
                true => "powercap has no zone of the whole platform (psys); the packages are read",
                false => {
                    "powercap has no zone of the whole platform (psys), and none of a package; other sources are used"
                }
            });
        }
        let reads_platform = level == Level::Platform && has_platform;
        zones.retain(|zone| (zone.kind == Kind::Platform) == reads_platform);
        // Where no processor can be read, other sources are used. One of several that cannot be read is estimated.
        let is_read = |zone: &Zone| zone.kind != Kind::Memory && !zone.counter.is_unread();
        let has_processor = zones.iter().any(is_read);
        let mut found = has_processor.then_some(Self { zones })?;
        for index in 1..found.zones.len() {
            found.zones[index].equals = found.equal_before(index);
        }
        Some(found)
    }

    /// Whether the zone of the platform is read.
    pub(super) fn is_platform(&self) -> bool {
        self.zones.iter().any(|zone| zone.kind == Kind::Platform)
    }

    /// What the zones added until now; `expected` is the power of all zones of a kind together.
    pub(super) fn advance(
        &mut self,
        files: &dyn SensorFiles,
        now_s: f64,
        expected: &Expected,
        notes: &mut Notes,
    ) -> ZonesAdded {
        let counted = |kind: Kind| {
            let zones = self.zones.iter().filter(|zone| zone.kind == kind && !zone.is_dropped);
            zones.count().max(1) as f64
        };
        let (packages, memories) = (counted(Kind::Package), counted(Kind::Memory));
        let of_zone = |kind: Kind| match kind {
            Kind::Package => expected.processor.divided(packages),
            Kind::Memory => expected.memory.divided(memories),
            Kind::Platform => expected.processor.and(expected.memory),
        };
        let mut added = Vec::new();
        for zone in self.zones.iter_mut() {
            if zone.is_dropped {
                added.push(None);
                continue;
            }
            let reading = files.number(&zone.path);
            let failure = reading.as_ref().err().cloned();
            let found = zone.counter.advance(reading, now_s, of_zone(zone.kind).watts.0);
            zone.note(found, failure, notes);
            added.push(Some(found));
        }
        self.drop_mirrors(&mut added, notes);
        let mut sums = ZonesAdded::default();
        for (zone, found) in self.zones.iter().zip(&added) {
            let sum = match zone.kind {
                Kind::Memory => sums.memory.get_or_insert_default(),
                Kind::Package | Kind::Platform => &mut sums.processor,
            };
            if let Some(found) = found {
                sum.add(found, of_zone(zone.kind));
            }
        }
        sums
    }

    /// Counts a zone that shows another zone's counter as nothing: equal readings twice in a row, with a rise between them. Counters that
    /// pass each other are equal once.
    fn drop_mirrors(&mut self, added: &mut [Option<Added>], notes: &mut Notes) {
        for (second, added) in added.iter_mut().enumerate().skip(1) {
            let equal = self.equal_before(second);
            let is_rise = |added: &Added| added.joules > Joule::ZERO && added.basis == Basis::Measured;
            let rises = added.as_ref().is_some_and(is_rise);
            if let Some(first) = equal.filter(|_| rises && self.zones[second].equals == equal) {
                let names = format!(
                    "{} shows the counter of {}",
                    self.zones[second].name, self.zones[first].name
                );
                notes.set(format!("powercap: {names}; it is counted once"));
                self.zones[second].is_dropped = true;
                *added = None;
            }
            self.zones[second].equals = equal;
        }
    }

    /// The first zone before this one with the same last reading.
    fn equal_before(&self, second: usize) -> Option<usize> {
        let zone = &self.zones[second];
        let is_equal = |other: &Zone| !other.is_dropped && mirrors(other.counter.last_uj(), zone.counter.last_uj());
        let before = self.zones[..second].iter();
        before
            .enumerate()
            .find(|(_, other)| !zone.is_dropped && is_equal(other))
            .map(|(index, _)| index)
    }
}

fn mirrors(one: u64, two: u64) -> bool {
    one > 0 && two > 0 && one.abs_diff(two) as f64 <= MIRROR_TOLERANCE * one.max(two) as f64
}

impl Zone {
    /// A directory such as `intel-rapl:0` (a package or the platform) or `intel-rapl:0:2` (a part of a package); none for what is not read.
    fn open(files: &dyn SensorFiles, directory: &str, now_s: f64, notes: &mut Notes) -> Option<Self> {
        let own_name = |directory: &str| {
            let text = files.read(&format!("{DIRECTORY}/{directory}/name")).ok()?;
            Some(text.trim().to_owned())
        };
        let mut levels = directory.split(':');
        let (controller, package, part) = (levels.next()?, levels.next()?, levels.next());
        let (kind, name) = match (part, own_name(directory)?) {
            (None, name) if name == "psys" => (Kind::Platform, name),
            (None, name) if name.starts_with("package") => (Kind::Package, name),
            (Some(_), name) if name == "dram" => {
                let parent = own_name(&format!("{controller}:{package}"))?;
                (Kind::Memory, format!("{parent}/dram"))
            }
            _ => return None,
        };
        let path = format!("{DIRECTORY}/{directory}/energy_uj");
        let range_uj = files
            .number(&format!("{DIRECTORY}/{directory}/max_energy_range_uj"))
            .ok();
        let counter = match files.number(&path) {
            Ok(reading) => TimedCounter::new(range_uj, reading, now_s, STILL_S),
            Err(error) => {
                notes.set(match error {
                    ReadError::Denied => format!("no permission to read the energy counters of powercap; {RIGHTS}"),
                    error => format!("powercap's zone {name} cannot be read: {error}"),
                });
                TimedCounter::unread(range_uj, now_s, STILL_S)
            }
        };
        Some(Self {
            kind,
            name,
            path,
            counter,
            equals: None,
            is_dropped: false,
        })
    }

    /// Writes down what was odd about a reading.
    fn note(&self, added: Added, failure: Option<ReadError>, notes: &mut Notes) {
        let name = &self.name;
        let what = match added.basis {
            Basis::Fallback => "an estimate",
            _ => "its power so far",
        };
        match (added.oddity, failure) {
            (Some(Oddity::Failed), failure) => {
                let reason = failure.map_or(String::new(), |failure| format!(" ({failure})"));
                notes.add(format!("{name} could not be read{reason}; {what} stands in"));
            }
            (Some(Oddity::Still), _) => {
                notes.set(format!(
                    "{name} does not count (energy_uj stands still); {what} stands in"
                ));
            }
            (Some(Oddity::SeveralWraps), _) => {
                notes.add(format!(
                    "{name} wrapped around more often than it was read; the number follows from its power"
                ));
            }
            (Some(Oddity::Reset), _) => {
                notes.add(format!(
                    "{name} started again at another number; its power so far stands in"
                ));
            }
            (None, _) => {}
        }
    }
}
