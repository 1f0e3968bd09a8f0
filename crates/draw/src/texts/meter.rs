//! What the energy meter says about its figures, in the languages of pages. The sentences are made in `taal_metrics::energy`.

use super::Language;

/// Parts of sentences in English and Dutch; between them are names and numbers.
const PHRASES: [(&str, &str); 38] = [
    (
        "the GPU's energy is missing: it is read on NVIDIA's only, by a program built with the feature nvml",
        "de energie van de GPU ontbreekt: die wordt alleen bij NVIDIA gelezen, door een programma met de feature nvml",
    ),
    (
        "the system does not say whose CPU time it is: the machine counts as ours alone and as fully used",
        "het systeem zegt niet van wie de processortijd is: de machine telt als alleen van ons en als volledig benut",
    ),
    (
        "the system does not say what else runs: the machine counts as ours alone",
        "het systeem zegt niet wat er nog meer draait: de machine telt als alleen van ons",
    ),
    (
        "the clock went back; the interval is left out",
        "de klok ging terug; het interval is weggelaten",
    ),
    (
        "the machine slept or its clock was set forward by ",
        "de machine sliep of haar klok is vooruitgezet, met ",
    ),
    (
        "the machine had its clock set back by ",
        "de klok van de machine is teruggezet, met ",
    ),
    (" s, which are not in the figures", " s, die niet in de cijfers zitten"),
    (
        "processes ended that nobody waited for; their last second may be missing, or all of one that was never seen",
        "er eindigden processen waarop niets wachtte; hun laatste seconde kan ontbreken, of alles van een dat nooit is gezien",
    ),
    (
        "the battery says its power at one end of an interval only: the power plug was moved, or it cannot be read; what it does not \
         say is estimated",
        "de batterij geeft haar vermogen maar aan een kant van een interval: de stekker is verplaatst, of ze kan niet worden gelezen; \
         wat ze niet geeft, is geschat",
    ),
    ("powercap shows the zone ", "powercap toont de zone "),
    (" twice; it is counted once", " twee keer; die telt een keer"),
    (" shows the counter of ", " toont de teller van "),
    ("; it is counted once", "; die telt een keer"),
    (
        "powercap has no zone of the whole platform (psys); the packages are read",
        "powercap heeft geen zone van het hele platform (psys); de processoren worden gelezen",
    ),
    (
        "powercap has no zone of the whole platform (psys), and none of a package; other sources are used",
        "powercap heeft geen zone van het hele platform (psys), en geen van een processor; andere bronnen worden gebruikt",
    ),
    (
        "no permission to read the energy counters of powercap; ",
        "geen recht om de energietellers van powercap te lezen; ",
    ),
    (
        " gives the right until the next start",
        " geeft het recht tot de volgende start",
    ),
    ("powercap's zone ", "de powercap-zone "),
    (
        " has no energy counter; its power is integrated",
        " heeft geen energieteller; het vermogen is over de tijd opgeteld",
    ),
    (" says neither its energy nor its power", " geeft energie noch vermogen"),
    ("; its energy is missing", "; de energie ontbreekt"),
    (
        " does not count (its energy stands still)",
        " telt niet (de energie staat stil)",
    ),
    (
        " does not count (energy_uj stands still)",
        " telt niet (energy_uj staat stil)",
    ),
    (" could not be read", " kon niet worden gelezen"),
    (" cannot be read", " kan niet worden gelezen"),
    (
        " wrapped around more often than it was read; the number follows from its power",
        " ging vaker rond dan er werd gelezen; het aantal volgt uit het vermogen",
    ),
    (" started again at another number", " begon opnieuw bij een ander getal"),
    (
        "; its power so far stands in",
        "; het vermogen tot dan toe komt ervoor in de plaats",
    ),
    (
        "; its last power stands in",
        "; het laatste vermogen komt ervoor in de plaats",
    ),
    ("; an estimate stands in", "; een schatting komt ervoor in de plaats"),
    (" has no row for the hours of ", " heeft geen rij voor de uren van "),
    (
        " of the energy; its mean stands in for them",
        " van de energie; het gemiddelde komt ervoor in de plaats",
    ),
    ("(no permission)", "(geen recht)"),
    (": no permission", ": geen recht"),
    ("(not there)", "(niet aanwezig)"),
    (": not there", ": niet aanwezig"),
    ("not a number: ", "geen getal: "),
    (" times)", " keer)"),
];

impl Language {
    /// A sentence of the energy meter in this language; none where it has no translation.
    pub fn meter_sentence(self, sentence: &str) -> Option<String> {
        match self {
            Self::English => Some(sentence.to_owned()),
            Self::Dutch => {
                let translate = |text: String, (english, dutch): &(&str, &str)| text.replace(english, dutch);
                let found = PHRASES.iter().fold(sentence.to_owned(), translate);
                (found != sentence).then_some(found)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use taal_metrics::energy::{FakeMachine, FakeZone, Level, MeterOptions, ReadError, selftest};

    use super::*;

    /// Words of English sentences that no Dutch one has.
    const ENGLISH: [&str; 10] = [
        " the ", " its ", " read", " not ", " be ", " no ", " are ", "times", " could ", " stands ",
    ];

    fn notes(machine: &FakeMachine, options: MeterOptions) -> Vec<String> {
        let mut meter = machine.meter(options);
        machine.pass(10.0, 4.0, 0.0);
        machine.set_wall_clock_by(-60.0);
        machine.pass(10.0, 4.0, 0.0);
        meter.finish().notes.sentences()
    }

    #[test]
    fn dutch_readers_get_dutch_sentences_of_the_meter() {
        let mut all: Vec<String> = selftest().into_iter().flat_map(|case| case.notes).collect();
        let platform = MeterOptions {
            level: Level::Platform,
            uses_gpu: true,
            ..MeterOptions::default()
        };
        all.extend(notes(&FakeMachine::new(), platform));
        for error in [ReadError::Denied, ReadError::Failed("EIO".to_owned())] {
            let mut zone = FakeZone::new("intel-rapl:1", "package-1", 20.0).at(7e9);
            zone.fault = Some(error);
            let machine = FakeMachine::new().with_zone(FakeZone::new("intel-rapl:0", "package-0", 20.0));
            all.extend(notes(&machine.with_zone(zone), MeterOptions::default()));
        }
        assert!(all.len() > 15, "{all:?}");
        for sentence in all {
            let dutch = Language::Dutch.meter_sentence(&sentence);
            let dutch = dutch.unwrap_or_else(|| panic!("no Dutch for: {sentence}"));
            for word in ENGLISH {
                assert!(!format!(" {dutch} ").contains(word), "{word:?} is English: {dutch}");
            }
            assert_eq!(Language::English.meter_sentence(&sentence), Some(sentence));
        }
        assert_eq!(Language::Dutch.meter_sentence("something else"), None);
    }
}
