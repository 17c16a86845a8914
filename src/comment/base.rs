//! The snapshot of the base branch that a job is compared with.
//!
//! A lookup in GitHub's cache says nothing about branches: a pull request finds what it saved itself first. The list of the REST interface
//! says which entry belongs to which branch; it needs `actions: read`. Without it, and in a directory or bucket, where there are no
//! branches, the snapshot that the job itself restored is used, and the comment says so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::difference::parts;
use crate::remote::github::{CacheEntryInfo, Rest, version};
use crate::remote::{Kind, Remote};
use crate::report::Report;
use crate::series::names::is_name;
use crate::series::sign::Keyring;
use crate::series::{MAX_SIZE, decode_to_merge, generation_name, generation_of, generation_prefix, read_generation};
use crate::snapshot::Snapshot;
use crate::store::StorePath;

/// Most prefixes of a report that are looked at, and most lists that are requested for all reports.
const MOST_PREFIXES: usize = 12;
const MOST_LISTS: usize = 40;
/// Generations that are tried if the newest ones cannot be used.
const MOST_TRIED: usize = 3;

/// Where snapshots are.
pub(crate) struct Place<'a> {
    pub remote: &'a dyn Remote,
    pub keys: &'a Keyring,
    /// The list of GitHub's cache, if that is the remote and there is a token.
    pub list: Option<&'a Rest>,
    /// Full references whose entries this job can read; empty if unknown.
    pub scopes: Vec<String>,
    /// The base branch, short.
    pub branch: String,
}

/// A snapshot to compare with.
pub(crate) struct Base {
    pub snapshot: Snapshot,
    pub key: String,
    pub generation: u64,
    /// Whether it is known to be the base branch's, instead of what the job restored.
    pub is_of_branch: bool,
    /// Versions by package, and the derivations that built its paths.
    versions: HashMap<String, BTreeSet<String>>,
    derivers: BTreeSet<StorePath>,
}

/// Finds snapshots, and keeps the last one: jobs of one run mostly share it.
pub(crate) struct Bases<'a> {
    place: Option<Place<'a>>,
    lists: BTreeMap<String, Option<Vec<CacheEntryInfo>>>,
    last: Option<(String, Arc<Base>)>,
}

impl<'a> Bases<'a> {
    /// Finds snapshots at `place`; none without one.
    pub(crate) fn new(place: Option<Place<'a>>) -> Self {
        Self { place, lists: BTreeMap::new(), last: None }
    }

    /// The snapshot that the job of `report` is compared with.
    ///
    /// # Errors
    /// A clause that says why there is none.
    pub(crate) async fn of(&mut self, report: &Report) -> Result<Arc<Base>, String> {
        if self.place.is_none() {
            return Err("the cache cannot be read here".to_owned());
        }
        let (names, is_of_branch) = self.choose(report).await?;
        self.read(&names, is_of_branch).await
    }

    /// The names of generations to try, newest first, and whether they are the base branch's.
    async fn choose(&mut self, report: &Report) -> Result<(Vec<String>, bool), String> {
        let key = &report.key;
        let system = &report.machine.system;
        let own = [generation_prefix(&format!("{}#{system}", key.primary)), generation_prefix(&key.primary)];
        let wanted: Vec<String> = own.into_iter().chain(key.prefixes.iter().take(MOST_PREFIXES).cloned()).collect();
        if key.primary.is_empty() || wanted.iter().any(|name| name.is_empty() || !is_name(name)) {
            return Err("the report names no valid key".to_owned());
        }
        let has_list = self.place.as_ref().is_some_and(|place| place.list.is_some());
        let mut is_listed = has_list;
        for prefix in &wanted {
            if !has_list {
                break;
            }
            match self.generations(prefix).await? {
                Some(names) if !names.is_empty() => return Ok((names, true)),
                Some(_) => {}
                None => {
                    is_listed = false;
                    break;
                }
            }
        }
        if is_listed {
            let branch = self.place.as_ref().map_or("", |place| &place.branch);
            return Err(format!("the cache has no snapshot of {branch} for this key"));
        }
        match (&key.matched, key.generation) {
            (Some(matched), Some(number)) if is_name(matched) => Ok((vec![generation_name(matched, number)], false)),
            _ if has_list => Err("the list of the cache cannot be read; the token needs `actions: read`".to_owned()),
            _ => Err("the job restored nothing to compare with".to_owned()),
        }
    }

    /// The generations below `prefix` that belong to the base branch and that a lookup by name finds, newest first. None without a list.
    async fn generations(&mut self, prefix: &str) -> Result<Option<Vec<String>>, String> {
        let Some(Place { list: Some(rest), scopes, branch, .. }) = &self.place else { return Ok(None) };
        if !self.lists.contains_key(prefix) {
            if self.lists.len() >= MOST_LISTS {
                return Err("the reports have too many different keys".to_owned());
            }
            self.lists.insert(prefix.to_owned(), rest.caches(prefix).await);
        }
        let Some(Some(entries)) = self.lists.get(prefix) else { return Ok(None) };
        let wanted = format!("refs/heads/{branch}");
        if !scopes.is_empty() && !scopes.contains(&wanted) {
            return Err(format!("this job cannot read what {branch} has saved"));
        }
        Ok(Some(readable(entries, &wanted, scopes)))
    }

    /// Reads the first of `names` that can be used.
    async fn read(&mut self, names: &[String], is_of_branch: bool) -> Result<Arc<Base>, String> {
        let Some(place) = &self.place else { return Err(String::new()) };
        let mut why = "the snapshot is no longer in the cache".to_owned();
        for name in names.iter().take(MOST_TRIED) {
            if let Some((known, base)) = &self.last
                && known == name
            {
                return Ok(Arc::clone(base));
            }
            match read_one(place, name, is_of_branch).await {
                Ok(Some(base)) => {
                    let base = Arc::new(base);
                    self.last = Some((name.clone(), Arc::clone(&base)));
                    return Ok(base);
                }
                Ok(None) => {}
                Err(error) => why = error,
            }
        }
        Err(why)
    }
}

/// The names of generations among `entries` that belong to `wanted`. One that another readable reference has too is left out: a lookup
/// could return either.
pub(super) fn readable(entries: &[CacheEntryInfo], wanted: &str, scopes: &[String]) -> Vec<String> {
    let ours = version(Kind::Snapshot);
    let snapshots = || entries.iter().filter(|entry| entry.version == ours && generation_of(&entry.key).is_some());
    let is_visible = |git_ref: &String| git_ref != wanted && (scopes.is_empty() || scopes.contains(git_ref));
    let hidden: BTreeSet<&String> =
        snapshots().filter(|entry| is_visible(&entry.git_ref)).map(|entry| &entry.key).collect();
    let mut found: Vec<&CacheEntryInfo> =
        snapshots().filter(|entry| entry.git_ref == wanted && !hidden.contains(&entry.key)).collect();
    found.sort_by_key(|entry| std::cmp::Reverse(entry.created));
    found.into_iter().map(|entry| entry.key.clone()).collect()
}

/// Reads one generation. None if it is not there or not trusted.
async fn read_one(place: &Place<'_>, name: &str, is_of_branch: bool) -> Result<Option<Base>, String> {
    let found = place.remote.find(Kind::Snapshot, &[name.to_owned()]).await.map_err(|error| error.to_string())?;
    let Some(entry) = found.filter(|entry| entry.name == name) else { return Ok(None) };
    let bytes = read_generation(place.remote, &entry, MAX_SIZE).await.map_err(|error| error.to_string())?;
    let snapshot: Option<Snapshot> =
        bytes.and_then(|bytes| decode_to_merge(u64::MAX, &entry, &bytes, place.keys, &mut Vec::new()));
    let Some((snapshot, (key, generation))) = snapshot.zip(generation_of(name)) else { return Ok(None) };
    Ok(Some(Base::of(snapshot, key, generation, is_of_branch)))
}

impl Base {
    pub(super) fn of(snapshot: Snapshot, key: &str, generation: u64, is_of_branch: bool) -> Self {
        let mut versions: HashMap<String, BTreeSet<String>> = HashMap::new();
        for (path, _) in snapshot.paths.keys().filter(|(path, _)| !path.is_derivation()) {
            let (package, version) = parts(path.name());
            versions.entry(package).or_default().insert(version);
        }
        let derivers = snapshot.paths.values().filter_map(|record| record.info.deriver.clone()).collect();
        Self { snapshot, key: key.to_owned(), generation, is_of_branch, versions, derivers }
    }

    /// Why a job had to build `derivation`.
    pub(crate) fn why_built(&self, derivation: &str) -> Why {
        let base = derivation.rsplit('/').next().unwrap_or(derivation);
        let Ok(path) = base.parse::<StorePath>() else { return Why::Unknown };
        if self.derivers.contains(&path) {
            return Why::NotRestored;
        }
        let (package, version) = parts(path.name().strip_suffix(".drv").unwrap_or(path.name()));
        match self.versions.get(&package) {
            None => Why::New,
            Some(known) if known.contains(&version) => Why::Inputs,
            Some(known) => Why::Version(known.last().cloned().unwrap_or_default()),
        }
    }
}

/// Why a derivation was built, compared with a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// There is no snapshot to compare with, or the derivation has no valid name.
    Unknown,
    /// The snapshot has no package of that name.
    New,
    /// The snapshot has this version, built from something else.
    Inputs,
    /// The snapshot has another version, this one among others.
    Version(String),
    /// The snapshot has what this derivation builds.
    NotRestored,
}
