//! The energy counters of processors and memory (RAPL) in Linux's `/sys/class/powercap`; AMD's are there too since Linux 5.8.
//!
//! A package contains its cores and its graphics, and the platform (`psys`) contains its packages, so one level is read and never two are
//! added. Memory (`dram`) is beside the package and is added. Some machines show a zone twice, through registers and through memory
//! (`intel-rapl-mmio`); it is counted once.

use super::counter::{Added, Oddity, TimedCounter};
use super::files::{ReadError, SensorFiles};
use super::notes::Notes;
use super::units::Joule;

const DIRECTORY: &str = "sys/class/powercap";

/// Two counters that differ by less than this share are one counter under two names.
const MIRROR_TOLERANCE: f64 = 1e-6;

/// Watts of a zone until its first interval was read.
const FALLBACK_WATTS: f64 = 10.0;

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

/// What the zones added in an interval.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ZonesAdded {
    /// Packages, or the platform.
    pub(super) processor: Joule,
    /// Memory; none if no zone measures it.
    pub(super) memory: Option<Joule>,
    /// The joules of both that stand in for failed readings.
    pub(super) estimated: Joule,
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
            if zones.iter().any(|other| other.name == zone.name) {
                notes.set(format!(
                    "powercap shows the zone {} twice; it is counted once",
                    zone.name
                ));
                continue;
            }
            zones.push(zone);
        }
        let has_platform = zones.iter().any(|zone| zone.kind == Kind::Platform);
        if level == Level::Platform && !has_platform {
            notes.set("powercap has no zone of the whole platform (psys); the packages are read");
        }
        let reads_platform = level == Level::Platform && has_platform;
        zones.retain(|zone| (zone.kind == Kind::Platform) == reads_platform);
        let has_processor = zones.iter().any(|zone| zone.kind != Kind::Memory);
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

    /// What the zones added until now.
    pub(super) fn advance(&mut self, files: &dyn SensorFiles, now_s: f64, notes: &mut Notes) -> ZonesAdded {
        let mut added = Vec::new();
        for zone in self.zones.iter_mut() {
            let reading = match zone.is_dropped {
                true => Ok(zone.counter.last_uj()),
                false => files.number(&zone.path),
            };
            let failure = reading.as_ref().err().cloned();
            let found = zone.counter.advance(reading, now_s, FALLBACK_WATTS);
            zone.note(found, failure, notes);
            added.push(found);
        }
        self.drop_mirrors(&mut added, notes);
        let mut sums = ZonesAdded::default();
        for (zone, found) in self.zones.iter().zip(&added) {
            match zone.kind {
                Kind::Memory => sums.memory = Some(sums.memory.unwrap_or_default() + found.joules),
                Kind::Package | Kind::Platform => sums.processor += found.joules,
            }
            if found.is_estimated {
                sums.estimated += found.joules;
            }
        }
        sums
    }

    /// Counts a zone that shows another zone's counter as nothing: equal readings twice in a row, with a rise between them. Counters that
    /// pass each other are equal once.
    fn drop_mirrors(&mut self, added: &mut [Added], notes: &mut Notes) {
        for (second, added) in added.iter_mut().enumerate().skip(1) {
            let equal = self.equal_before(second);
            let rises = added.joules > Joule::ZERO;
            if let Some(first) = equal.filter(|_| rises && self.zones[second].equals == equal) {
                let names = format!(
                    "{} shows the counter of {}",
                    self.zones[second].name, self.zones[first].name
                );
                notes.set(format!("powercap: {names}; it is counted once"));
                self.zones[second].is_dropped = true;
                added.joules = Joule::ZERO;
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
        let reading = match files.number(&path) {
            Ok(reading) => reading,
            Err(ReadError::Denied) => {
                notes.set(format!(
                    "no permission to read the energy counters of powercap; {RIGHTS}"
                ));
                return None;
            }
            Err(error) => {
                notes.set(format!(
                    "powercap's zone {name} cannot be read: {error}; it is left out"
                ));
                return None;
            }
        };
        let range_uj = files
            .number(&format!("{DIRECTORY}/{directory}/max_energy_range_uj"))
            .ok();
        Some(Self {
            kind,
            name,
            path,
            counter: TimedCounter::new(range_uj, reading, now_s),
            equals: None,
            is_dropped: false,
        })
    }

    /// Writes down what was odd about a reading.
    fn note(&self, added: Added, failure: Option<ReadError>, notes: &mut Notes) {
        let name = &self.name;
        match (added.oddity, failure) {
            (Some(Oddity::Failed), failure) => {
                let reason = failure.map_or(String::new(), |failure| format!(" ({failure})"));
                notes.add(format!("{name} could not be read{reason}; its power so far stands in"));
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
