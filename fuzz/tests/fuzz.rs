//! Every input that once broke something, and a few thousand new ones per target.

use std::path::Path;
use std::sync::{Mutex, OnceLock};

use taal_fuzz::{Target, mutate, run, scratch, target, targets};

/// Executions of each target here; `cargo xtask fuzz --executions 1000000` runs more.
const EXECUTIONS: u64 = 1_000;

/// Memory is counted for the whole process, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn use_scratch() {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| scratch::temporary().expect("a temporary folder"));
    scratch::use_folder(folder.path());
}

fn assert_no_fault(target: &Target, input: &[u8], which: &str) -> bool {
    let execution = run::execute(target, input);
    if let Some(fault) = execution.fault {
        panic!("{}, {which}: {fault}", target.name);
    }
    execution.is_accepted
}

#[test]
fn inputs_that_once_broke_something_are_refused_or_accepted() {
    let _alone = ALONE.lock();
    use_scratch();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    for folder in std::fs::read_dir(root).expect("the folder of inputs") {
        let folder = folder.expect("an entry").path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = target(&name).unwrap_or_else(|| panic!("{name} is not a target"));
        run::warm_up(target);
        for file in std::fs::read_dir(&folder).expect("a folder of inputs") {
            let path = file.expect("an entry").path();
            let input = std::fs::read(&path).expect("an input");
            assert_no_fault(target, &input, &path.display().to_string());
        }
    }
}

#[test]
fn seeds_are_inputs_that_are_accepted() {
    let _alone = ALONE.lock();
    use_scratch();
    for target in targets() {
        for (index, seed) in target.seeds().iter().enumerate() {
            assert!(
                assert_no_fault(target, seed, "a seed"),
                "{}: seed {index} is refused",
                target.name
            );
        }
    }
}

#[test]
fn mutated_inputs_break_nothing() {
    let _alone = ALONE.lock();
    use_scratch();
    for target in targets() {
        run::warm_up(target);
        let accepted = (0..EXECUTIONS)
            .filter(|&index| {
                let input = mutate::input(target, 1, index);
                assert_no_fault(target, &input, &format!("seed 1, execution {index}"))
            })
            .count() as u64;
        assert!(
            accepted > 0 && accepted < EXECUTIONS,
            "{}: {accepted} of {EXECUTIONS} accepted: both accepted and refused inputs are needed",
            target.name
        );
    }
}

#[test]
fn an_execution_is_a_function_of_seed_target_and_index() {
    let _alone = ALONE.lock();
    use_scratch();
    let [first, second] = [&targets()[0], &targets()[4]];
    let index = 1000;
    assert_eq!(mutate::input(first, 7, index), mutate::input(first, 7, index));
    assert_ne!(mutate::input(first, 7, index), mutate::input(first, 8, index));
    assert_ne!(mutate::input(first, 7, index), mutate::input(first, 7, index + 1));
    assert_ne!(mutate::input(first, 7, index), mutate::input(second, 7, index));
    assert_eq!(
        mutate::input(first, 7, 0),
        mutate::input(first, 8, 0),
        "seeds come first, unchanged"
    );
}

#[test]
fn panics_and_memory_are_noticed() {
    let _alone = ALONE.lock();
    let with = |run| Target::new("made up", run, Vec::new, &[]);
    assert_eq!(run::execute(&with(|_| true), b"x").fault, None);
    let fault = run::execute(&with(|_| panic!("on purpose")), b"x").fault;
    assert!(fault.is_some_and(|fault| fault.contains("on purpose")));
    let fault = run::execute(&with(|_| vec![1_u8; 65 << 20].len() > 1), b"x").fault;
    assert!(fault.is_some_and(|fault| fault.contains("bytes of memory")));
    assert_eq!(
        run::execute(&with(|_| vec![1_u8; 60 << 20].len() > 1), b"x").fault,
        None
    );
}

#[test]
fn r15_a_header_of_empty_tensors_takes_little_memory() {
    let _alone = ALONE.lock();
    use_scratch();
    let target = target("safetensors").expect("a target");
    run::warm_up(target);
    let seed = &target.seeds()[0];
    let (length, rest) = seed.split_first_chunk::<8>().expect("a header");
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let empty =
        (0..20_000).map(|index| format!(",\"{index}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"));
    let header = String::from_utf8_lossy(header)
        .trim_end()
        .trim_end_matches('}')
        .to_owned()
        + "}"
        + &empty.collect::<String>()
        + "}";
    for header in [header.clone(), header[..(1 << 20) - 100].to_owned()] {
        let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat();
        assert!(!assert_no_fault(target, &file, "many empty tensors"));
    }
}
