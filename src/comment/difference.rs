//! The difference between the closure of a job's outputs and that of the same outputs in the snapshot of the base.
//!
//! An output of the job is compared with the path of the same name, apart from the version, that the lane used last on the base. So only
//! what the outputs need is compared, and not what a job happened to have in its store.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::snapshot::{Record, Snapshot};
use crate::store::StorePath;

/// Endings of names that only say which output of a derivation it is.
const OUTPUTS: [&str; 12] =
    ["-bin", "-debug", "-dev", "-devdoc", "-dist", "-doc", "-info", "-lib", "-man", "-out", "-static", "-tex"];

/// A package in one of both closures. Sizes are unknown where the snapshot leaves the path to a substituter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub name: String,
    pub before: BTreeSet<String>,
    pub after: BTreeSet<String>,
    /// Bytes of the paths that are gone and that are new.
    pub bytes_before: Option<u64>,
    pub bytes_after: Option<u64>,
}

/// What changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The names of the job's outputs, each with that of the base's; None where the base has none.
    pub outputs: Vec<(String, Option<String>)>,
    pub paths_before: u64,
    pub paths_after: u64,
    /// None if a size is unknown.
    pub bytes_before: Option<u64>,
    pub bytes_after: Option<u64>,
    /// Store paths that only one side has.
    pub paths_added: u64,
    pub paths_removed: u64,
    /// Packages, the largest changes first.
    pub changed: Vec<Change>,
    pub added: Vec<Change>,
    pub removed: Vec<Change>,
    /// Packages whose version is the same, built from other inputs.
    pub rebuilt: Vec<Change>,
}

impl Change {
    /// How much larger it is now.
    pub(crate) fn growth(&self) -> Option<i64> {
        growth(self.bytes_before, self.bytes_after)
    }
}

impl Difference {
    /// How much larger the closure is now.
    pub(crate) fn growth(&self) -> Option<i64> {
        growth(self.bytes_before, self.bytes_after)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.paths_added == 0 && self.paths_removed == 0
    }
}

fn growth(before: Option<u64>, after: Option<u64>) -> Option<i64> {
    Some(i64::try_from(after?).ok()?.saturating_sub_unsigned(before?))
}

/// Splits the name of a store path into package and version: the version starts at the first dash with a digit behind it, as
/// `builtins.parseDrvName` has it. The name of an output goes with the package.
pub(crate) fn parts(name: &str) -> (String, String) {
    let (stem, output) = OUTPUTS.iter().find_map(|end| Some((name.strip_suffix(end)?, *end))).unwrap_or((name, ""));
    let dash = stem.match_indices('-').find(|(at, _)| stem[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    let (package, version) = dash.map_or((stem, ""), |(at, _)| (&stem[..at], &stem[at + 1..]));
    (format!("{package}{output}"), version.to_owned())
}

/// Compares the closure `after` of `outputs` with what `before` has for the lane.
pub(crate) fn difference(
    (outputs, after): (&BTreeSet<StorePath>, &BTreeMap<StorePath, Option<u64>>),
    before: &Snapshot,
    lane: &str,
) -> Difference {
    let records = before.chosen();
    let pairs: Vec<(&StorePath, Option<&StorePath>)> =
        outputs.iter().map(|output| (output, counterpart(output, before, &records, lane))).collect();
    let before = closure(pairs.iter().filter_map(|(_, there)| *there), &records);
    let mut found = Difference {
        outputs: pairs.iter().map(|(one, other)| (name(one), other.map(name))).collect(),
        paths_before: before.len() as u64,
        paths_after: after.len() as u64,
        bytes_before: before.values().try_fold(0, |sum, bytes| add(Some(sum), *bytes)),
        bytes_after: after.values().try_fold(0, |sum, bytes| add(Some(sum), *bytes)),
        ..Difference::default()
    };
    let mut packages: BTreeMap<String, Change> = BTreeMap::new();
    for (path, bytes) in before.iter().filter(|(path, _)| !after.contains_key(*path)) {
        found.paths_removed += 1;
        let (change, version) = package(&mut packages, path);
        change.before.insert(version);
        change.bytes_before = add(change.bytes_before, *bytes);
    }
    for (path, bytes) in after.iter().filter(|(path, _)| !before.contains_key(*path)) {
        found.paths_added += 1;
        let (change, version) = package(&mut packages, path);
        change.after.insert(version);
        change.bytes_after = add(change.bytes_after, *bytes);
    }
    for change in packages.into_values() {
        let list = match (change.before.is_empty(), change.after.is_empty()) {
            (true, _) => &mut found.added,
            (_, true) => &mut found.removed,
            _ if change.before == change.after => &mut found.rebuilt,
            _ => &mut found.changed,
        };
        list.push(change);
    }
    for list in [&mut found.changed, &mut found.added, &mut found.removed, &mut found.rebuilt] {
        list.sort_by_key(|change| std::cmp::Reverse(change.growth().unwrap_or(0).unsigned_abs()));
    }
    found
}

fn name(path: &StorePath) -> String {
    path.name().to_owned()
}

fn add(sum: Option<u64>, bytes: Option<u64>) -> Option<u64> {
    Some(sum?.saturating_add(bytes?))
}

fn package<'a>(packages: &'a mut BTreeMap<String, Change>, path: &StorePath) -> (&'a mut Change, String) {
    let (name, version) = parts(path.name());
    let new = || Change { name: name.clone(), bytes_before: Some(0), bytes_after: Some(0), ..Change::default() };
    (packages.entry(name.clone()).or_insert_with(new), version)
}

/// The path that `output` is compared with: itself, or the one of the same package that the lane used last, or any job if the lane is new.
fn counterpart<'a>(
    output: &StorePath,
    snapshot: &'a Snapshot,
    records: &'a BTreeMap<StorePath, &Record>,
    lane: &str,
) -> Option<&'a StorePath> {
    if let Some((same, _)) = records.get_key_value(output) {
        return Some(same);
    }
    let wanted = parts(output.name()).0;
    let lane = snapshot.lanes.get(lane);
    let used = |path: &StorePath, record: &Record| {
        lane.and_then(|lane| lane.paths.get(path)).map_or((0, record.last_used), |at| (1, *at))
    };
    let alike = records.iter().filter(|(path, _)| !path.is_derivation() && parts(path.name()).0 == wanted);
    alike.max_by_key(|(path, record)| (used(path, record), *path)).map(|(path, _)| path)
}

/// What `roots` need, with sizes. A path that only the references of others name has none.
fn closure<'a>(
    roots: impl Iterator<Item = &'a StorePath>,
    records: &'a BTreeMap<StorePath, &Record>,
) -> HashMap<&'a StorePath, Option<u64>> {
    let mut todo: Vec<&StorePath> = roots.collect();
    let mut found = HashMap::new();
    while let Some(path) = todo.pop() {
        if found.contains_key(path) {
            continue;
        }
        let record = records.get(path);
        found.insert(path, record.map(|record| record.info.nar_size));
        todo.extend(record.into_iter().flat_map(|record| &record.info.references));
    }
    found
}
