//! A file system in memory that fails or crashes on request.
//!
//! It keeps two versions of everything: what a running program sees, and what is durable. A file's content becomes durable with
//! `fsync` of the file, a name with `fsync` of its directory. At a crash everything that is not durable is kept, dropped or torn,
//! depending on a seed: the worst that POSIX allows, which is worse than any journaling file system.

mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Kind, Vfs, VfsFile};

/// The unit of atomic disk writes.
const SECTOR_BYTES: usize = 512;

/// More links than this are treated as a loop.
const MAX_LINKS: usize = 40;

/// What happens at a crash to everything that is not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All of it is kept.
    Kept,
    /// None of it is kept.
    Dropped,
    /// Each 512-byte sector is new, old or zero; each change of a name happened or did not.
    Torn,
}

impl Fate {
    /// All variants.
    pub const ALL: [Self; 3] = [Self::Kept, Self::Dropped, Self::Torn];
}

/// What goes wrong at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Power loss: a write is half done, and every later operation fails.
    Crash,
    /// The disk is full, once.
    Full,
    /// The disk is full from then on.
    FullForGood,
    /// The operation fails as on a broken disk, once.
    Broken,
    /// A write succeeds for half of its bytes, and the next one finds the disk full.
    ShortWrite,
}

/// A file system in memory; clones are the same file system. Only operations that change something are counted and can fail.
#[derive(Debug, Clone, Default)]
pub struct FaultVfs {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    is_crashed: bool,
    locked: BTreeSet<usize>,
    available_bytes: u64,
    trace: Vec<String>,
}

#[derive(Debug, Clone)]
enum Node {
    File { seen: Vec<u8>, durable: Vec<u8> },
    Dir(Dir),
    Link(PathBuf),
}

#[derive(Debug, Clone, Default)]
struct Dir {
    seen: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    /// Changes of names since the last fsync, in order.
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Add(String, usize),
    Remove(String),
    Rename(String, String, usize),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Add(name, node) => {
                names.insert(name.clone(), *node);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

impl Dir {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.changes.push(change);
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            nodes: vec![Node::Dir(Dir::default())],
            operations: 0,
            fault: None,
            is_crashed: false,
            locked: BTreeSet::new(),
            available_bytes: u64::MAX,
            trace: Vec::new(),
        }
    }
}

impl FaultVfs {
    /// An empty file system with a root directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the operation with this number (from 0) fail.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.lock().fault = Some((operation, fault));
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.lock().fault = None;
    }

    /// Sets what [`crate::free_space_bytes`] returns.
    pub fn set_available_bytes(&self, bytes: u64) {
        self.lock().available_bytes = bytes;
    }

    /// The number of changing operations so far, including failed ones.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Every operation so far, in words.
    pub fn trace(&self) -> Vec<String> {
        self.lock().trace.clone()
    }

    /// Whether the requested crash has happened.
    pub fn is_crashed(&self) -> bool {
        self.lock().is_crashed
    }

    /// Damages a file, including its durable version: a flipped bit, a truncated end.
    ///
    /// # Errors
    ///
    /// Where the path is not a file.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.lock();
        let id = state.follow(path)?;
        match &mut state.nodes[id] {
            Node::File { seen, durable } => {
                change(seen);
                durable.clone_from(seen);
                Ok(())
            }
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The file system after a reboot, without faults and locks; this one is unchanged.
    pub fn after_crash(&self, fate: Fate, seed: u64) -> Self {
        let state = self.lock();
        let mut dice = Dice(seed);
        let nodes = state.nodes.iter().map(|node| survivor(node, fate, &mut dice)).collect();
        let survived = State {
            nodes,
            available_bytes: state.available_bytes,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(survived)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked while holding the lock has already failed.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What remains of a file or directory.
fn survivor(node: &Node, fate: Fate, dice: &mut Dice) -> Node {
    match (node, fate) {
        (Node::Link(target), _) => Node::Link(target.clone()),
        (Node::File { seen, .. }, Fate::Kept) => file_of(seen.clone()),
        (Node::File { durable, .. }, Fate::Dropped) => file_of(durable.clone()),
        (Node::File { seen, durable }, Fate::Torn) if seen == durable => file_of(seen.clone()),
        (Node::File { seen, durable }, Fate::Torn) => file_of(torn(seen, durable, dice)),
        (Node::Dir(dir), _) => {
            let mut names = dir.durable.clone();
            for change in &dir.changes {
                let happened = match fate {
                    Fate::Kept => true,
                    Fate::Dropped => false,
                    Fate::Torn => dice.roll(2) == 0,
                };
                if happened {
                    change.apply(&mut names);
                }
            }
            Node::Dir(Dir {
                seen: names.clone(),
                durable: names,
                changes: Vec::new(),
            })
        }
    }
}

fn file_of(bytes: Vec<u8>) -> Node {
    Node::File {
        seen: bytes.clone(),
        durable: bytes,
    }
}

fn torn(seen: &[u8], durable: &[u8], dice: &mut Dice) -> Vec<u8> {
    let (shortest, longest) = (seen.len().min(durable.len()), seen.len().max(durable.len()));
    let mut bytes = Vec::with_capacity(longest);
    while bytes.len() < longest {
        let range = bytes.len()..(bytes.len() + SECTOR_BYTES).min(longest);
        // A sector that was not written never loses durable content; a new sector may be allocated without content.
        let is_new = range.start >= durable.len();
        let source = match dice.roll(if is_new { 2 } else { 3 }) {
            0 => seen,
            1 if is_new => &[],
            _ => durable,
        };
        bytes.extend(range.map(|at| source.get(at).copied().unwrap_or(0)));
    }
    // The size is written separately.
    bytes.truncate(shortest + dice.roll((longest - shortest) as u64 + 1) as usize);
    bytes
}

/// Random numbers from a seed (splitmix64, Steele, Lea and Flood 2014), so that a case can be reproduced.
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `sides`, which is at least 1.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

fn crashed() -> io::Error {
    io::Error::other("the simulated machine has crashed")
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// The effect of a fault on a write.
enum Verdict {
    Go,
    Half,
}

impl State {
    /// Counts a changing operation and returns whether it happens.
    fn operate(&mut self, words: impl FnOnce() -> String) -> io::Result<Verdict> {
        if self.is_crashed {
            return Err(crashed());
        }
        let number = self.operations;
        self.operations += 1;
        self.trace.push(words());
        let Some((at, fault)) = self.fault else {
            return Ok(Verdict::Go);
        };
        match fault {
            Fault::Crash if number == at => {
                self.is_crashed = true;
                Ok(Verdict::Half)
            }
            Fault::Full | Fault::FullForGood if number == at => Err(io::ErrorKind::StorageFull.into()),
            Fault::FullForGood if number > at => Err(io::ErrorKind::StorageFull.into()),
            Fault::Broken if number == at => Err(io::Error::other("the simulated disk is broken")),
            Fault::ShortWrite if number == at => Ok(Verdict::Half),
            Fault::ShortWrite if number == at + 1 => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(Verdict::Go),
        }
    }

    /// As [`operate`](Self::operate), for atomic operations.
    fn act(&mut self, words: impl FnOnce() -> String) -> io::Result<()> {
        match self.operate(words)? {
            Verdict::Half if self.is_crashed => Err(crashed()),
            Verdict::Go | Verdict::Half => Ok(()),
        }
    }

    /// As [`act`](Self::act), for operations that free space and therefore work on a full disk.
    fn free(&mut self, words: impl FnOnce() -> String) -> io::Result<()> {
        match self.act(words) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            other => other,
        }
    }

    fn dir(&mut self, id: usize) -> io::Result<&mut Dir> {
        match &mut self.nodes[id] {
            Node::Dir(dir) => Ok(dir),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&mut self, id: usize) -> io::Result<(&mut Vec<u8>, &mut Vec<u8>)> {
        match &mut self.nodes[id] {
            Node::File { seen, durable } => Ok((seen, durable)),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The directory of the path's last name, following links, and that name.
    fn parent(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let (id, _) = self.walk(path.parent().unwrap_or(Path::new("/")))?;
        Ok((id, name.to_string_lossy().into_owned()))
    }

    /// The node at the path, without following its last link.
    fn look(&self, path: &Path) -> io::Result<usize> {
        if path.file_name().is_none() {
            return Ok(self.walk(path)?.0);
        }
        let (parent, name) = self.parent(path)?;
        match &self.nodes[parent] {
            Node::Dir(dir) => dir.seen.get(&name).copied().ok_or_else(missing),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// The node at the path, following links.
    fn follow(&self, path: &Path) -> io::Result<usize> {
        Ok(self.walk(path)?.0)
    }

    /// The node at the path, following links, and its path without links.
    fn walk(&self, path: &Path) -> io::Result<(usize, PathBuf)> {
        let mut stack: Vec<(usize, String)> = Vec::new();
        let mut todo: Vec<String> = words(path);
        todo.reverse();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                stack.pop();
                continue;
            }
            let here = stack.last().map_or(0, |(id, _)| *id);
            let Node::Dir(dir) = &self.nodes[here] else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            let id = *dir.seen.get(&name).ok_or_else(missing)?;
            if let Node::Link(target) = &self.nodes[id] {
                links += 1;
                if links > MAX_LINKS {
                    return Err(io::Error::other("too many links"));
                }
                if target.is_absolute() {
                    stack.clear();
                }
                todo.extend(words(target).into_iter().rev());
            } else {
                stack.push((id, name));
            }
        }
        let mut path = PathBuf::from("/");
        path.extend(stack.iter().map(|(_, name)| name));
        Ok((stack.last().map_or(0, |(id, _)| *id), path))
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let (parent, name) = self.parent(path)?;
        let id = self.nodes.len();
        let dir = self.dir(parent)?;
        if dir.seen.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        dir.change(Change::Add(name, id));
        self.nodes.push(node);
        Ok(id)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        self.dir(parent)?.change(Change::Remove(name));
        Ok(())
    }
}

fn words(path: &Path) -> Vec<String> {
    let of = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        Component::ParentDir => Some("..".to_owned()),
        _ => None,
    };
    path.components().filter_map(of).collect()
}

impl Vfs for FaultVfs {
    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let state = self.lock();
        if state.is_crashed {
            return Err(crashed());
        }
        let id = state.follow(path)?;
        Ok(self.opened(id, path))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let mut state = self.lock();
        if state.look(path).is_ok() && !state.is_crashed {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.act(|| format!("create {}", path.display()))?;
        let id = state.add(
            path,
            Node::File {
                seen: Vec::new(),
                durable: Vec::new(),
            },
        )?;
        Ok(self.opened(id, path))
    }

    fn open_update(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let found = self.lock().follow(path);
        match found {
            Ok(_) => self.open(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create_new(path),
            Err(error) => Err(error),
        }
    }

    fn fsync(&self, path: &Path) -> io::Result<()> {
        self.open(path)?.fsync()
    }

    fn fsync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.act(|| format!("fsync directory {}", path.display()))?;
        let id = state.follow(path)?;
        let dir = state.dir(id)?;
        dir.durable.clone_from(&dir.seen);
        dir.changes.clear();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let moved = state.look(from)?;
        let replaced = state.look(to).ok();
        match replaced.map(|id| &state.nodes[id]) {
            Some(Node::Dir(dir)) if !dir.seen.is_empty() => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            Some(Node::File { .. } | Node::Link(_)) if matches!(state.nodes[moved], Node::Dir(_)) => {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            _ => {}
        }
        state.act(|| format!("rename {} to {}", from.display(), to.display()))?;
        let (from_dir, from_name) = state.parent(from)?;
        let (to_dir, to_name) = state.parent(to)?;
        if from_dir == to_dir {
            state.dir(to_dir)?.change(Change::Rename(from_name, to_name, moved));
        } else {
            state.dir(to_dir)?.change(Change::Add(to_name, moved));
            state.dir(from_dir)?.change(Change::Remove(from_name));
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let id = state.look(path)?;
        if matches!(state.nodes[id], Node::Dir(_)) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        state.free(|| format!("remove {}", path.display()))?;
        state.remove(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        if self.kind(path)? == Kind::Link {
            return self.remove_file(path);
        }
        for entry in self.entries(path)? {
            match self.kind(&entry)? {
                Kind::Dir => self.remove_dir_all(&entry)?,
                _ => self.remove_file(&entry)?,
            }
        }
        let mut state = self.lock();
        state.free(|| format!("remove directory {}", path.display()))?;
        state.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if !self.entries(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.remove_dir_all(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        if state.look(path).is_ok() && !state.is_crashed {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.act(|| format!("create directory {}", path.display()))?;
        state.add(path, Node::Dir(Dir::default()))?;
        Ok(())
    }

    fn kind(&self, path: &Path) -> io::Result<Kind> {
        let state = self.lock();
        let id = state.look(path)?;
        Ok(match &state.nodes[id] {
            Node::File { .. } => Kind::File,
            Node::Dir(_) => Kind::Dir,
            Node::Link(_) => Kind::Link,
        })
    }

    fn is_dir(&self, path: &Path) -> bool {
        let state = self.lock();
        state
            .follow(path)
            .is_ok_and(|id| matches!(state.nodes[id], Node::Dir(_)))
    }

    fn size_bytes(&self, path: &Path) -> io::Result<u64> {
        let state = self.lock();
        let id = state.follow(path)?;
        Ok(match &state.nodes[id] {
            Node::File { seen, .. } => seen.len() as u64,
            _ => 0,
        })
    }

    fn entries(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut state = self.lock();
        let id = state.follow(path)?;
        Ok(state.dir(id)?.seen.keys().map(|name| path.join(name)).collect())
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(self.lock().walk(path)?.1)
    }

    fn symlink_dir(&self, target: &Path, link: &Path) -> io::Result<()> {
        let mut state = self.lock();
        if state.look(link).is_ok() && !state.is_crashed {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.act(|| format!("link {} to {}", link.display(), target.display()))?;
        state.add(link, Node::Link(target.to_owned()))?;
        Ok(())
    }

    fn available_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.lock().available_bytes)
    }
}
