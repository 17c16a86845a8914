//! The serialised form of a snapshot: JSON in which every store path is written once and then referred to by its number.
//! The outputs of derivations are not in it: readers take them from the `.drv` files ([`crate::attach`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;
use std::marker::PhantomData;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::trace::{MAX_UNITS, Trace};
use super::{Facts, Lane, Layer, PathKey, Record, Snapshot, Stored};
use crate::base::digest::Sha;
use crate::layer::digest::Digests;
use crate::layer::recipe::{Recipe, Segment};
use crate::series::RecordError;
use crate::series::names::is_name;
use crate::store::{NarHash, PathInfo, Realisation, SharedMap, SharedSet, StorePath};

#[derive(Deserialize)]
pub(super) struct Wire {
    facts: Facts,
    /// All store paths that anything below refers to, ascending.
    #[serde(deserialize_with = "lenient")]
    names: Vec<Option<StorePath>>,
    /// A malformed one is left out alone: it keeps its place for the numbers.
    #[serde(deserialize_with = "lenient")]
    paths: Vec<Option<WirePath>>,
    layers: Vec<WireLayer>,
    stored: Vec<WireStored>,
    #[serde(default)]
    upstream: Vec<u32>,
    lanes: BTreeMap<String, WireLane>,
    #[serde(default)]
    unread: BTreeMap<u64, u64>,
    #[serde(default, deserialize_with = "lenient")]
    realisations: Vec<Option<Realisation>>,
}

#[derive(Serialize, Deserialize)]
struct WirePath {
    path: u32,
    hash: NarHash,
    size: u64,
    #[serde(default, skip_serializing_if = "<[u32]>::is_empty")]
    refs: Box<[u32]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deriver: Option<u32>,
    #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
    sigs: SharedSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    time: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ultimate: bool,
    used: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize, Deserialize)]
struct WireLayer {
    size: u64,
    chunks: Vec<Sha>,
    /// Numbers into `paths`, not `names`.
    paths: Vec<u32>,
    nar_bytes: u64,
    created: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    tables: u64,
    /// Each a number into `stored`, an offset and a length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    recipe: Vec<(u32, u64, u64)>,
}

/// Bytes in the remote.
#[derive(Serialize, Deserialize)]
struct WireStored {
    entry: String,
    size: u64,
    chunks: Vec<Sha>,
}

#[derive(Serialize, Deserialize)]
struct WireLane {
    used: u64,
    paths: Vec<u32>,
    /// How many seconds before `used` each of `paths` was used; empty where all of them were used then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ages: Vec<u64>,
    /// When it saved; empty where it was once, at `used`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    saves: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    returned: Vec<u32>,
    /// When its trace was recorded, and a number into `stored` with numbers of parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<WireTrace>,
    /// The paths of its trace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    trace_paths: Vec<u32>,
}

/// A time, and numbers into `stored` with numbers of parts.
type WireTrace = (u64, Vec<(u32, Vec<u32>)>);

/// A snapshot as [`Wire`] is written, with long lists created while they are written: together, they would need a fifth of the
/// snapshot's own memory.
#[derive(Serialize)]
#[serde(bound = "Listed<N>: Serialize, Listed<P>: Serialize")]
struct Written<'a, N, P> {
    facts: &'a Facts,
    names: Listed<N>,
    paths: Listed<P>,
    layers: Vec<WireLayer>,
    stored: Vec<WireStored>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    upstream: Vec<u32>,
    lanes: BTreeMap<&'a str, WireLane>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unread: &'a BTreeMap<u64, u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    realisations: Vec<&'a Realisation>,
}

/// A list that is created while it is written.
struct Listed<I>(I);

impl<I: Iterator<Item: Serialize> + Clone> Serialize for Listed<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}

/// Writes `snapshot` as JSON.
pub(super) fn write(snapshot: &Snapshot, out: impl Write) -> serde_json::Result<()> {
    let mut names: Vec<&StorePath> = mentioned(snapshot);
    names.sort_unstable();
    names.dedup();
    let number = |path: &StorePath| names.binary_search(&path).expect("all mentioned paths are in it") as u32;
    let numbers = |paths: &BTreeSet<StorePath>| paths.iter().map(number).collect::<Vec<_>>();
    let path = |record: &Record| WirePath {
        path: number(&record.info.path),
        hash: record.info.nar_hash,
        size: record.info.nar_size,
        refs: record.info.references.iter().map(number).collect(),
        deriver: record.info.deriver.as_ref().map(number),
        sigs: record.info.signatures.clone(),
        ca: record.info.ca.clone(),
        time: record.info.registration_time,
        ultimate: record.info.ultimate,
        used: record.last_used,
    };
    let places: BTreeMap<&PathKey, u32> = snapshot.paths.keys().zip(0..).collect();
    let stored_places: BTreeMap<&Sha, u32> = snapshot.stored.keys().zip(0..).collect();
    let segment = |segment: &Segment| Some((*stored_places.get(&segment.stored)?, segment.offset, segment.length));
    let stored = |stored: &Stored| WireStored {
        entry: stored.entry.clone(),
        size: stored.digests.size,
        chunks: stored.digests.chunks.clone(),
    };
    let layer = |layer: &Layer| WireLayer {
        size: layer.digests.size,
        chunks: layer.digests.chunks.clone(),
        paths: layer.paths.iter().filter_map(|key| places.get(key).copied()).collect(),
        nar_bytes: layer.nar_bytes,
        created: layer.created,
        tables: layer.tables,
        recipe: layer.recipe.iter().flat_map(|recipe| &recipe.0).filter_map(segment).collect(),
    };
    let layers = snapshot.layers.values().map(layer).collect();
    drop(places);
    // Parts of what the snapshot no longer refers to are left out.
    let trace = |lane: &Lane| {
        let units = lane.trace.units.iter();
        let units: Vec<_> = units.filter_map(|(id, units)| Some((*stored_places.get(id)?, units.clone()))).collect();
        (!units.is_empty() || !lane.trace.paths.is_empty()).then_some((lane.trace.time, units))
    };
    let lane = |lane: &Lane| {
        let ages: Vec<u64> = lane.paths.values().map(|used| lane.used.saturating_sub(*used)).collect();
        WireLane {
            used: lane.used,
            paths: lane.paths.keys().map(number).collect(),
            ages: if ages.iter().all(|age| *age == 0) { Vec::new() } else { ages },
            saves: if lane.saves == BTreeSet::from([lane.used]) {
                Vec::new()
            } else {
                lane.saves.iter().copied().collect()
            },
            returned: numbers(&lane.returned),
            trace: trace(lane),
            trace_paths: lane.trace.paths.iter().map(number).collect(),
        }
    };
    let written = Written {
        facts: &snapshot.facts,
        names: Listed(names.iter()),
        paths: Listed(snapshot.paths.values().map(path)),
        layers,
        stored: snapshot.stored.values().map(stored).collect(),
        upstream: numbers(&snapshot.upstream),
        lanes: snapshot.lanes.iter().map(|(name, used)| (&**name, lane(used))).collect(),
        unread: &snapshot.unread,
        realisations: snapshot.realisations.values().collect(),
    };
    serde_json::to_writer(out, &written)
}

/// Returns every store path in a snapshot.
fn mentioned(snapshot: &Snapshot) -> Vec<&StorePath> {
    let mut all: Vec<&StorePath> = Vec::new();
    for Record { info, .. } in snapshot.paths.values() {
        all.extend(info.references.iter().chain(&info.deriver).chain([&info.path]));
        // A path is named by all its referrers.
        if all.len() > 1 << 20 {
            all.sort_unstable();
            all.dedup();
        }
    }
    all.extend(&snapshot.upstream);
    all.extend(
        snapshot.lanes.values().flat_map(|lane| lane.paths.keys().chain(&lane.returned).chain(&lane.trace.paths)),
    );
    all
}

impl TryFrom<Wire> for Snapshot {
    type Error = RecordError;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        let named = |name: &String| is_name(name);
        let entries = wire.stored.iter().map(|stored| &stored.entry);
        if !wire.facts.are_sound() || !entries.chain(wire.lanes.keys()).all(named) {
            return Err(RecordError::damaged("a name in it has invalid characters"));
        }
        let outside = || RecordError::damaged("a number in it points at nothing");
        let spelt = &wire.names;
        let name = |number: u32| spelt.get(number as usize).cloned().flatten();
        let mut keys: Vec<Option<PathKey>> = Vec::with_capacity(wire.paths.len());
        let mut paths = Vec::with_capacity(wire.paths.len());
        let mut malformed = 0;
        for path in wire.paths {
            let record = path.and_then(|path| record(path, &name));
            malformed += u64::from(record.is_none());
            keys.push(record.map(|record| {
                let key = (record.info.path.clone(), record.info.nar_hash);
                paths.push((key.clone(), record));
                key
            }));
        }
        let paths: BTreeMap<PathKey, Record> = paths.into_iter().collect();
        let (stored, stored_ids) = stored(wire.stored)?;
        let mut layers = BTreeMap::new();
        for layer in wire.layers {
            let digests = Digests { size: layer.size, chunks: layer.chunks };
            if !digests.is_consistent() {
                return Err(RecordError::damaged("a layer has more or fewer digests than chunks"));
            }
            let held = distinct(layer.paths).map(|number| keys.get(number as usize).cloned().ok_or_else(outside));
            let held = held.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
            let id = digests.id();
            let (nar_bytes, created, tables) = (layer.nar_bytes, layer.created, layer.tables);
            let recipe = (!layer.recipe.is_empty()).then(|| recipe(&layer.recipe, &stored_ids)).transpose()?;
            let layer = Layer { digests, recipe, paths: held, nar_bytes, created, tables };
            let length = layer.recipe.as_ref().map_or(layer.digests.size, Recipe::length);
            if length != layer.digests.size || !layer.stored().iter().all(|id| stored.contains_key(id)) {
                return Err(RecordError::damaged("a layer does not match its recipe"));
            }
            layers.insert(id, layer);
        }
        let mut lanes = BTreeMap::new();
        for (lane, used) in wire.lanes {
            let ages = used.ages.iter().copied().chain(std::iter::repeat(0));
            let mut paths = BTreeMap::new();
            for (number, age) in used.paths.iter().zip(ages) {
                // One by one, so that repetitions need no memory.
                if let Some(path) = name(*number) {
                    paths.insert(path, used.used.saturating_sub(age));
                }
            }
            let saves =
                if used.saves.is_empty() { BTreeSet::from([used.used]) } else { used.saves.iter().copied().collect() };
            let returned = distinct(used.returned).filter_map(name).collect();
            let (time, units) = used.trace.unwrap_or_default();
            let mut left = MAX_UNITS;
            let units = units.into_iter().filter_map(|(number, mut units)| {
                units.truncate(left);
                left -= units.len();
                stored_ids.get(number as usize).map(|id| (*id, units))
            });
            let mut seen = BTreeSet::new();
            let numbers = used.trace_paths.into_iter().filter(|number| seen.insert(*number)).take(Trace::MAX_PATHS);
            let trace = Trace {
                time,
                units: units.filter(|(_, units)| !units.is_empty()).collect(),
                paths: numbers.filter_map(name).collect(),
            };
            lanes.insert(lane, Lane { used: used.used, saves, paths, returned, trace });
        }
        let upstream = distinct(wire.upstream).filter_map(name).collect();
        let realisations = wire.realisations.into_iter().flatten().filter(Realisation::is_sound);
        let realisations = realisations.map(|realisation| (realisation.id.clone(), realisation)).collect();
        let (facts, unread) = (wire.facts, wire.unread);
        Ok(Self { facts, paths, layers, stored, upstream, lanes, unread, realisations, malformed })
    }
}

/// Removes duplicates from `numbers`: a number stands for a larger object, and a small file can repeat it very often.
fn distinct(mut numbers: Vec<u32>) -> impl Iterator<Item = u32> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers.into_iter()
}

/// The record of a path; None if a number in it is out of range, or refers to a malformed name.
fn record(path: WirePath, name: &impl Fn(u32) -> Option<StorePath>) -> Option<Record> {
    let info = PathInfo {
        path: name(path.path)?,
        nar_hash: path.hash,
        nar_size: path.size,
        references: distinct(path.refs.into_vec()).map(name).collect::<Option<_>>()?,
        deriver: match path.deriver {
            None => None,
            Some(number) => Some(name(number)?),
        },
        signatures: path.sigs,
        ca: path.ca,
        registration_time: path.time,
        ultimate: path.ultimate,
        outputs: SharedMap::new(),
    };
    Some(Record { info, last_used: path.used })
}

/// Reads a list in which a malformed element becomes None.
fn lenient<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Option<T>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Element<T> {
        Good(T),
        Malformed(IgnoredAny),
    }

    struct List<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<Option<T>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = elements.next_element()? {
                list.push(match element {
                    Element::Good(element) => Some(element),
                    Element::Malformed(_) => None,
                });
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(List(PhantomData))
}

/// The stored bytes, and their ids in the order of the list.
fn stored(list: Vec<WireStored>) -> Result<(BTreeMap<Sha, Stored>, Vec<Sha>), RecordError> {
    let (mut all, mut ids) = (BTreeMap::new(), Vec::new());
    for WireStored { entry, size, chunks } in list {
        let digests = Digests { size, chunks };
        if !digests.is_consistent() {
            return Err(RecordError::damaged("an entry has more or fewer digests than chunks"));
        }
        ids.push(digests.id());
        all.insert(digests.id(), Stored { digests, entry });
    }
    Ok((all, ids))
}

fn recipe(segments: &[(u32, u64, u64)], stored: &[Sha]) -> Result<Recipe, RecordError> {
    let outside = || RecordError::damaged("a number in it points at nothing");
    let segment = |&(number, offset, length): &(u32, u64, u64)| {
        let stored = *stored.get(number as usize).ok_or_else(outside)?;
        Ok::<_, RecordError>(Segment { stored, offset, length })
    };
    segments.iter().map(segment).collect::<Result<_, _>>().map(Recipe)
}
