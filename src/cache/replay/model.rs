//! The model: which store paths each job of a history needs, how large they are, and how long they take without a cache. A history
//! has the lock file of each commit and the names of the files that it changed, and nothing of what they build; all else here is assumed:
//!
//! - The flake needs [`PACKAGES`] paths of nixpkgs of 20 KB to 10 MB (2.9 GB together) and nine paths of every other input. One lane needs
//!   nine in ten of them, the other six in ten.
//! - A bump of nixpkgs by `d` days changes the share `1 - exp(-d / 30)` of its paths, and an input's paths change with its lock.
//! - The project has 30 paths of dependencies, which change with nixpkgs and with lock files of other tools, and in each lane one result, which
//!   refers to all that the lane needs and changes with any file that is not a text.
//! - A dependency takes 20 s to build and a result 60 s; what nixpkgs has is fetched at 30 MB/s.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::store::{NarHash, PathInfo, Paths, StorePath};

const PACKAGES: u64 = 1200;
const DEPENDENCIES: u64 = 30;
/// The lanes, and how many in ten paths they need.
pub(super) const LANES: [(&str, u64); 2] = [("build", 9), ("checks", 6)];
/// Bytes a second from a substituter.
const UPSTREAM: f64 = 30e6;

/// One commit of a history.
#[derive(Deserialize)]
pub(super) struct Commit {
    /// Seconds since 1970.
    pub time: u64,
    pub lock: String,
    pub changed: Vec<String>,
}

/// Commits in their order, and the folder with their lock files.
pub(super) struct History {
    pub name: String,
    pub commits: Vec<Commit>,
    folder: PathBuf,
}

impl History {
    pub(super) fn read(folder: &Path) -> Self {
        let text = fs::read_to_string(folder.join("history.jsonl")).unwrap();
        Self {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            commits: text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
            folder: folder.to_owned(),
        }
    }

    /// The lock file of a commit.
    pub(super) fn lock(&self, commit: &Commit) -> PathBuf {
        self.folder.join("locks").join(&commit.lock).with_extension("json")
    }
}

/// What one job needs.
pub(super) struct Needs {
    pub paths: Paths,
    /// What is linked as the result, a root of the garbage collector.
    pub result: StorePath,
}

/// A number from 0 to 1 that only depends on a text.
fn chance(text: &str) -> f64 {
    let hash = Sha256::digest(text.as_bytes());
    f64::from(u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])) / f64::from(u32::MAX)
}

/// The path called `name` of this version.
fn path(name: &str, version: &str, size: u64, references: BTreeSet<StorePath>) -> PathInfo {
    const ALPHABET: &[u8] = b"0123456789abcdfghijklmnpqrsvwxyz";
    let hash = Sha256::digest(format!("{name} {version}").as_bytes());
    let digits: String = hash.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
    PathInfo {
        path: format!("{digits}-{name}").parse().unwrap(),
        nar_hash: NarHash(hash.into()),
        // A NAR is a multiple of eight bytes.
        nar_size: size / 8 * 8,
        references: references.into(),
        deriver: None,
        signatures: BTreeSet::new().into(),
        ca: None,
        registration_time: 1,
        ultimate: true,
        outputs: BTreeMap::new().into(),
    }
}

/// What has changed so far.
#[derive(Default)]
pub(super) struct Model {
    /// The version of each package, by revision of nixpkgs.
    versions: HashMap<String, Vec<u32>>,
    /// The newest revision, and its date.
    newest: Option<(String, f64)>,
    dependencies: u32,
    code: u32,
}

impl Model {
    /// The needs of each lane at the next commit.
    pub(super) fn next(&mut self, history: &History, commit: &Commit) -> Vec<Needs> {
        let lock: Value = serde_json::from_str(&fs::read_to_string(history.lock(commit)).unwrap()).unwrap();
        let nodes = lock["nodes"].as_object().unwrap();
        let is_nixpkgs =
            |node: &Value| node["locked"]["repo"].as_str().is_some_and(|repo| repo.eq_ignore_ascii_case("nixpkgs"));
        let nixpkgs = nodes
            .get("nixpkgs")
            .filter(|node| is_nixpkgs(node))
            .or_else(|| nodes.values().find(|node| is_nixpkgs(node)));
        let text = |node: &Value, name: &str| node["locked"][name].as_str().unwrap_or_default().to_owned();
        let (revision, date) = nixpkgs.map_or((String::new(), 0.0), |node| {
            (text(node, "narHash"), node["locked"]["lastModified"].as_f64().unwrap_or_default())
        });
        self.bump(&revision, date);
        for file in &commit.changed {
            let name = file.rsplit('/').next().unwrap_or(file);
            let extension = Path::new(name).extension().and_then(|text| text.to_str()).unwrap_or_default();
            if name != "flake.lock" && (["lock", "sum"].contains(&extension) || name == "package-lock.json") {
                self.dependencies += 1;
            }
            let is_text =
                ["md", "txt", "adoc", "yml", "yaml"].contains(&extension) || name.starts_with('.') || name == "LICENSE";
            self.code += u32::from(!is_text && name != "flake.lock");
        }
        let mut shared: Vec<PathInfo> = self.packages(&revision);
        for (name, node) in nodes.iter().filter(|(_, node)| node.get("locked").is_some() && !is_nixpkgs(node)) {
            let version = text(node, "narHash");
            shared.push(path(&format!("{name}-source"), &version, 4_000_000, BTreeSet::new()));
            shared
                .extend((0..8).map(|tool| path(&format!("{name}-tool-{tool}"), &version, 3_000_000, BTreeSet::new())));
        }
        let own = (0..DEPENDENCIES).map(|number| {
            path(
                &format!("dependency-{number}"),
                &format!("{revision} {}", self.dependencies),
                9_000_000,
                BTreeSet::new(),
            )
        });
        let own: Vec<PathInfo> = own.collect();
        LANES.iter().map(|(lane, share)| self.needs(lane, *share, &shared, &own)).collect()
    }

    fn needs(&self, lane: &str, share: u64, shared: &[PathInfo], own: &[PathInfo]) -> Needs {
        let is_needed = |info: &&PathInfo| chance(&format!("{lane} {}", info.path.name())) * 10.0 < share as f64;
        let mut all: Vec<PathInfo> = shared.iter().filter(is_needed).chain(own).cloned().collect();
        let references: BTreeSet<StorePath> = all.iter().map(|info| info.path.clone()).collect();
        // What it is made of is part of its version, as in Nix.
        let made_of: String = references.iter().map(StorePath::hash_part).collect();
        let result = path(&format!("result-{lane}"), &format!("{} {made_of}", self.code), 30_000_000, references);
        let name = result.path.clone();
        all.push(result);
        Needs { paths: all.into_iter().map(|info| (info.path.clone(), info)).collect(), result: name }
    }

    /// Makes the versions of a revision that is new, from those of the one before it.
    fn bump(&mut self, revision: &str, date: f64) {
        let before = self.newest.replace((revision.to_owned(), date));
        if self.versions.contains_key(revision) {
            return;
        }
        let Some((old, old_date)) = before else {
            self.versions.insert(revision.to_owned(), vec![0; PACKAGES as usize]);
            return;
        };
        let days = (date - old_date).abs() / 86_400.0;
        let share = 1.0 - (-days / 30.0).exp();
        let fresh = self.versions.len() as u32;
        let old = &self.versions[&old];
        let new = old
            .iter()
            .enumerate()
            .map(|(number, version)| if chance(&format!("{revision} {number}")) < share { fresh } else { *version });
        let new = new.collect();
        self.versions.insert(revision.to_owned(), new);
    }

    fn packages(&self, revision: &str) -> Vec<PathInfo> {
        let of = |(number, version): (usize, &u32)| {
            let name = format!("package-{}", letters(number));
            let size = 20_000.0 * 2f64.powf(chance(&name) * 9.0);
            path(&name, &version.to_string(), size as u64, BTreeSet::new())
        };
        self.versions[revision].iter().enumerate().map(of).collect()
    }
}

/// A number in letters: names that differ in digits alone are taken for versions of one package.
fn letters(mut number: usize) -> String {
    let mut text = String::new();
    loop {
        text.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
        if number == 0 {
            return text;
        }
    }
}

/// How long it takes to get what is missing of `needs`, in seconds.
pub(super) fn time_to_make<'a>(missing: impl Iterator<Item = &'a PathInfo>) -> f64 {
    missing
        .map(|info| match info.path.name() {
            name if name.starts_with("result-") => 60.0,
            name if name.starts_with("dependency-") => 20.0,
            _ => info.nar_size as f64 / UPSTREAM,
        })
        .sum()
}
