//! Weights in several files: opened as the single file is, or refused by the name of the file and tensor that is wrong.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use taal_model::hugging_face;
use taal_model::{ModelError, Transformer};
use taal_store::ErrorKind;

const INDEX: &str = "model.safetensors.index.json";
const SHARDS: [&str; 3] = [
    "model-00001-of-00003.safetensors",
    "model-00002-of-00003.safetensors",
    "model-00003-of-00003.safetensors",
];
const NORM: &str = "model.norm.weight";

type Tensors = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

fn golden_dir() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llama-untied")
}

/// The golden model split into three files, before it is written.
struct Cut {
    shards: [Tensors; 3],
    /// Which file holds which tensor, as the index has it.
    map: BTreeMap<String, String>,
}

impl Cut {
    /// Adjacent tensors are in different files, as are the parts of a fused matrix.
    fn new() -> Self {
        let bytes = std::fs::read(golden_dir().join("model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut names = file.names();
        names.sort_unstable();
        let mut shards = [(); 3].map(|()| Tensors::new());
        let mut map = BTreeMap::new();
        for (index, name) in names.into_iter().enumerate() {
            let view = file.tensor(name).unwrap();
            let tensor = (view.shape().to_vec(), view.data().to_vec());
            shards[index % 3].insert(name.to_string(), tensor);
            map.insert(name.to_string(), SHARDS[index % 3].to_string());
        }
        Self { shards, map }
    }

    /// The index of the file that holds a tensor.
    fn place(&self, name: &str) -> usize {
        self.shards.iter().position(|shard| shard.contains_key(name)).unwrap()
    }

    fn write(&self, dir: &Path) {
        std::fs::copy(golden_dir().join("config.json"), dir.join("config.json")).unwrap();
        for (name, tensors) in SHARDS.iter().zip(&self.shards) {
            let views = tensors.iter().map(|(name, (shape, data))| {
                let view = TensorView::new(Dtype::F32, shape.clone(), data).unwrap();
                (name, view)
            });
            std::fs::write(dir.join(name), safetensors::serialize(views, None).unwrap()).unwrap();
        }
        let index = json!({"metadata": {"total_size": 74_880}, "weight_map": self.map});
        std::fs::write(dir.join(INDEX), index.to_string()).unwrap();
    }
}

fn open(dir: &Path) -> Result<Transformer, ModelError> {
    hugging_face::open(dir, &Device::flex())
}

/// The error for the cut model after a change of its tensors or map.
fn refusal(change: impl FnOnce(&mut Cut)) -> ModelError {
    let folder = tempfile::tempdir().unwrap();
    let mut cut = Cut::new();
    change(&mut cut);
    cut.write(folder.path());
    open(folder.path()).expect_err("this must be refused")
}

/// The error for the directory after a change of its files.
fn refusal_of_files(change: impl FnOnce(&Path)) -> ModelError {
    let folder = tempfile::tempdir().unwrap();
    Cut::new().write(folder.path());
    change(folder.path());
    open(folder.path()).expect_err("this must be refused")
}

#[track_caller]
fn assert_says(error: &ModelError, words: &[&str]) {
    let message = error.to_string();
    println!("{message}");
    assert!(
        words.iter().all(|word| message.contains(word)),
        "{message} lacks one of {words:?}"
    );
    assert!(message.len() < 1000 && !message.contains('\n'), "{message}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

fn logits(model: &Transformer) -> Vec<f32> {
    let ids: Vec<i32> = (0..17).map(|i| i * 7 % 50).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, 17]), &Device::flex());
    model.forward(ids).unwrap().into_data().iter().collect()
}

#[test]
fn several_files_open_as_the_single_file_does() {
    let folder = tempfile::tempdir().unwrap();
    Cut::new().write(folder.path());
    let model = open(folder.path()).unwrap();
    let single = open(&golden_dir()).unwrap();
    assert_eq!(model.config(), single.config());
    assert_eq!(logits(&model), logits(&single));
}

#[test]
fn files_in_subfolders_and_pickles_next_to_them_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let mut cut = Cut::new();
    cut.map
        .values_mut()
        .filter(|file| **file == SHARDS[1])
        .for_each(|file| *file = format!("parts/{file}"));
    cut.write(folder.path());
    std::fs::create_dir(folder.path().join("parts")).unwrap();
    std::fs::rename(
        folder.path().join(SHARDS[1]),
        folder.path().join("parts").join(SHARDS[1]),
    )
    .unwrap();
    std::fs::write(folder.path().join("pytorch_model.bin"), b"anything").unwrap();
    open(folder.path()).unwrap();
}

#[test]
fn a_single_file_is_taken_before_an_index() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden_dir().join(name), folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join(INDEX), b"not an index").unwrap();
    open(folder.path()).unwrap();
}

#[test]
fn every_tensor_is_exactly_where_the_index_has_it() {
    let place = Cut::new().place(NORM);
    let [here, elsewhere] = [SHARDS[place], SHARDS[(place + 1) % 3]];
    let missing = refusal(|cut| drop(cut.shards[place].remove(NORM)));
    assert_says(&missing, &[here, NORM, "is missing", INDEX]);
    let nowhere = refusal(|cut| {
        cut.shards[place].remove(NORM);
        cut.map.remove(NORM);
    });
    assert_says(&nowhere, &[INDEX, NORM, "is missing; config.json asks for it"]);
    let unlisted = refusal(|cut| drop(cut.map.remove(NORM)));
    assert_says(&unlisted, &[here, NORM, "is not in", INDEX]);
    let moved = refusal(|cut| drop(cut.map.insert(NORM.into(), elsewhere.into())));
    assert_says(&moved, &[NORM, here, elsewhere]);
    let twice = refusal(|cut| {
        let tensor = cut.shards[place][NORM].clone();
        cut.shards[(place + 1) % 3].insert(NORM.into(), tensor);
    });
    assert_says(&twice, &[elsewhere, NORM, "is here, but", here]);
    let surplus = refusal(|cut| {
        cut.shards[1].insert("model.extra".into(), (vec![1], vec![0; 4]));
        cut.map.insert("model.extra".into(), SHARDS[1].into());
    });
    assert_says(&surplus, &[SHARDS[1], "model.extra", "no place"]);
}

#[test]
fn damaged_tensors_are_named_with_their_file() {
    let place = Cut::new().place(NORM);
    let damaged = |shape: Vec<usize>, values: Vec<f32>| {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        refusal(|cut| drop(cut.shards[place].insert(NORM.into(), (shape, bytes))))
    };
    assert_says(
        &damaged(vec![4, 8], vec![1.0; 32]),
        &[SHARDS[place], NORM, "[4, 8]", "[32]"],
    );
    let mut values = vec![1.0; 32];
    values[5] = f32::NAN;
    assert_says(&damaged(vec![32], values), &[SHARDS[place], NORM, "NaN", "at index 5"]);
}

#[test]
fn missing_and_damaged_files_are_named() {
    let file = SHARDS[2];
    let removed = refusal_of_files(|dir| std::fs::remove_file(dir.join(file)).unwrap());
    assert_says(&removed, &[INDEX, file, "is missing"]);
    let folder = refusal_of_files(|dir| {
        std::fs::remove_file(dir.join(file)).unwrap();
        std::fs::create_dir(dir.join(file)).unwrap();
    });
    assert_says(&folder, &[INDEX, file, "is not a file"]);
    let truncated = refusal_of_files(|dir| {
        let bytes = std::fs::read(dir.join(file)).unwrap();
        std::fs::write(dir.join(file), &bytes[..bytes.len() - 1]).unwrap();
    });
    assert_says(&truncated, &[file, "not a whole safetensors file"]);
    let empty = refusal_of_files(|dir| std::fs::write(dir.join(file), b"").unwrap());
    assert_says(&empty, &[file, "0 bytes"]);
    let pickle = refusal_of_files(|dir| std::fs::write(dir.join(file), b"\x80\x02}q\0.").unwrap());
    assert_says(&pickle, &[file, "pickle", "convert"]);
}

#[test]
fn an_oversized_configuration_is_refused_before_any_memory_is_taken() {
    let error = refusal_of_files(|dir| {
        let text = std::fs::read_to_string(dir.join("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["hidden_size"] = json!(1 << 24);
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    });
    assert_says(&error, &[INDEX, "74880 bytes of tensors are too few"]);
}

#[test]
fn files_outside_the_directory_are_refused() {
    let outside = tempfile::tempdir().unwrap();
    Cut::new().write(outside.path());
    let path = outside.path().join(SHARDS[0]);
    let up = format!("../{}/{}", outside.path().file_name().unwrap().display(), SHARDS[0]);
    for name in [path.to_str().unwrap(), &up, "", "C:\\model", "a/./b", "\u{1b}[2J"] {
        let error = refusal(|cut| {
            let files = cut.map.values_mut().filter(|file| **file == SHARDS[0]);
            files.for_each(|file| *file = name.to_string());
        });
        assert_says(&error, &[INDEX, "is refused"]);
    }
    #[cfg(unix)]
    {
        let error = refusal_of_files(|dir| {
            std::fs::remove_file(dir.join(SHARDS[0])).unwrap();
            std::os::unix::fs::symlink(&path, dir.join(SHARDS[0])).unwrap();
        });
        assert_says(&error, &[INDEX, SHARDS[0], "a link leads outside the directory"]);
    }
}

/// The cut model as Hugging Face's cache keeps it, in `folder`: names in a snapshot, which are links to the files in `blobs`.
#[cfg(unix)]
fn write_cache(folder: &Path, snapshot: &str) -> std::path::PathBuf {
    let dir = folder.join(snapshot);
    let blobs = dir.parent().unwrap().with_file_name("blobs");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::create_dir_all(&blobs).unwrap();
    Cut::new().write(&dir);
    for (number, name) in SHARDS.into_iter().chain([INDEX, "config.json"]).enumerate() {
        std::fs::rename(dir.join(name), blobs.join(number.to_string())).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{number}"), dir.join(name)).unwrap();
    }
    dir
}

#[cfg(unix)]
#[test]
fn a_snapshot_in_hugging_faces_cache_opens_and_nothing_else_leads_outside() {
    use std::os::unix::fs::symlink;
    const SNAPSHOT: &str = "models--a--b/snapshots/0123";
    let golden = open(&golden_dir()).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let dir = write_cache(folder.path(), SNAPSHOT);
    assert_eq!(logits(&open(&dir).unwrap()), logits(&golden));
    // The snapshot under another name.
    symlink(SNAPSHOT, folder.path().join("model")).unwrap();
    assert_eq!(logits(&open(&folder.path().join("model")).unwrap()), logits(&golden));

    let refused = |snapshot: &str, change: fn(&Path, &Path)| {
        let folder = tempfile::tempdir().unwrap();
        let dir = write_cache(folder.path(), snapshot);
        change(folder.path(), &dir);
        assert_says(&open(&dir).unwrap_err(), &[INDEX, "a link leads outside the directory"]);
    };
    for other in [
        "a--b/snapshots/0123",
        "models--a--b/revisions/0123",
        "models--a--b/snapshots/0/1",
    ] {
        refused(other, |_, _| ());
    }
    // Another model's files, or those next to the blobs.
    for target in ["models--c--d/blobs", "models--a--b/refs"] {
        let target: fn(&Path, &Path) = match target {
            "models--c--d/blobs" => |folder, dir| relink(&folder.join("models--c--d/blobs"), dir),
            _ => |folder, dir| relink(&folder.join("models--a--b/refs"), dir),
        };
        refused(SNAPSHOT, target);
    }
    // The folder of blobs is a link itself.
    refused(SNAPSHOT, |folder, _| {
        let blobs = folder.join("models--a--b/blobs");
        std::fs::rename(&blobs, folder.join("elsewhere")).unwrap();
        symlink("../elsewhere", &blobs).unwrap();
    });
}

/// Moves the first file of weights to `target` and links to it.
#[cfg(unix)]
fn relink(target: &Path, dir: &Path) {
    std::fs::create_dir_all(target).unwrap();
    let link = dir.join(SHARDS[0]);
    std::fs::rename(std::fs::canonicalize(&link).unwrap(), target.join("0")).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(target.join("0"), &link).unwrap();
}

#[test]
fn damaged_indexes_are_refused() {
    let many: BTreeMap<String, &str> = (0..20_000).map(|i| (format!("{i:0200}"), SHARDS[0])).collect();
    let cases: [(String, &[&str]); 8] = [
        (String::new(), &["not an index", "EOF"]),
        ("{}".into(), &["not an index", "weight_map"]),
        ("[]".into(), &["not an index"]),
        (json!({"weight_map": [NORM]}).to_string(), &["not an index"]),
        (json!({"weight_map": {NORM: 1}}).to_string(), &["not an index"]),
        (
            format!(
                "{{\"weight_map\":{{\"{NORM}\":\"{}\",\"{NORM}\":\"{}\"}}}}",
                SHARDS[0], SHARDS[0]
            ),
            &[NORM, "twice"],
        ),
        ("{\"weight_map\":{},\"weight_map\":{}}".into(), &["duplicate"]),
        (
            json!({"weight_map": {}}).to_string(),
            &["0 bytes of tensors are too few"],
        ),
    ];
    for (text, words) in cases {
        let error = refusal_of_files(|dir| std::fs::write(dir.join(INDEX), text).unwrap());
        assert_says(&error, &[&[INDEX], words].concat());
    }
    let error = refusal_of_files(|dir| {
        std::fs::write(dir.join(INDEX), json!({"weight_map": many}).to_string()).unwrap();
    });
    assert!(
        error.to_string().contains(INDEX) && error.to_string().contains("at most"),
        "{error}"
    );
}

#[test]
fn a_model_in_too_many_files_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut cut = Cut::new();
    for number in 0..1025 {
        let name = format!("a{number:04}");
        std::fs::write(folder.path().join(&name), b"").unwrap();
        cut.map.insert(name.clone(), name);
    }
    cut.write(folder.path());
    assert_says(&open(folder.path()).unwrap_err(), &[INDEX, "more than 1024 files"]);
}
