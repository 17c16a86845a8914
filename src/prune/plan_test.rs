//! What a plan deletes and what it never deletes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::names::{OwnName, own_name};
use super::plan::Reason::{ClosedPullRequest, DeletedRef, LeastRecentlyUsed, MergeQueue};
use super::plan::{Plan, Reason, decide};
use super::view::{Content, GRACE, HOUR, QUEUE, Rules, View};
use crate::remote::{Kind, Listed, RefState};

const NOW: u64 = 1_800_000_000;
const MAIN: &str = "refs/heads/main";
const PULL: &str = "refs/pull/7/merge";

/// A cache in the making.
struct Cache {
    entries: Vec<Listed>,
    contents: BTreeMap<String, Content>,
    refs: BTreeMap<String, RefState>,
    rules: Rules,
}

fn layer_name(number: u8) -> String {
    format!("{number:064x}")
}

impl Cache {
    fn new() -> Self {
        let rules = Rules { keep_generations: 1, keep_days: 14, max_total: None };
        Self { entries: Vec::new(), contents: BTreeMap::new(), refs: BTreeMap::new(), rules }
    }

    /// Adds an entry that was stored and last read some hours ago.
    fn add(&mut self, kind: Option<Kind>, name: &str, scope: &str, size: u64, (created, accessed): (u64, u64)) {
        self.entries.push(Listed {
            id: self.entries.len().to_string(),
            kind,
            name: name.to_owned(),
            scope: scope.to_owned(),
            size,
            created: NOW - created * HOUR,
            accessed: Some(NOW - accessed * HOUR),
        });
    }

    fn layer(&mut self, number: u8, scope: &str, hours: (u64, u64)) {
        self.add(Some(Kind::Layer), &layer_name(number), scope, 100, hours);
    }

    fn snapshot(&mut self, name: &str, scope: &str, hours: (u64, u64), layers: Option<&[u8]>) {
        let content = match layers {
            Some(layers) => Content::Known {
                layers: layers.iter().map(|layer| layer_name(*layer)).collect(),
                unread: BTreeSet::new(),
                lanes: BTreeMap::new(),
            },
            None => Content::Unknown("it is in another branch".to_owned()),
        };
        self.contents.insert(self.entries.len().to_string(), content);
        self.add(Some(Kind::Snapshot), name, scope, 1, hours);
    }

    fn view(&self) -> View<'_> {
        View {
            entries: &self.entries,
            refs: &self.refs,
            default_scope: Some(MAIN),
            contents: &self.contents,
            records_lookups: true,
            rules: &self.rules,
            now: NOW,
        }
    }

    fn plan(&self) -> Plan {
        decide(&self.view()).expect("everything was read")
    }

    /// The deleted names with the reasons, in order. Layers are shown as their numbers.
    fn deleted(&self) -> Vec<(String, Reason)> {
        let short =
            |name: &str| if name.len() == 64 { name.trim_start_matches('0').to_owned() } else { name.to_owned() };
        self.plan().deletions.iter().map(|(index, reason)| (short(&self.entries[*index].name), *reason)).collect()
    }
}

fn pairs(all: &[(&str, Reason)]) -> Vec<(String, Reason)> {
    all.iter().map(|(name, reason)| ((*name).to_owned(), *reason)).collect()
}

#[test]
fn older_generations_go_before_the_layers_that_only_they_name() {
    let mut cache = Cache::new();
    cache.layer(1, MAIN, (50, 50));
    cache.layer(2, MAIN, (50, 1));
    cache.layer(3, MAIN, (3, 3));
    cache.snapshot("k#g1", MAIN, (50, 50), Some(&[1, 2]));
    cache.snapshot("k#g2", MAIN, (40, 40), Some(&[2]));
    cache.snapshot("k#g3", MAIN, (20, 20), Some(&[2]));
    let expected = [("k#g1", Reason::Superseded), ("k#g2", Reason::Superseded), ("1", Reason::Orphaned)];
    // Layer 3 is younger than the longest job.
    assert_eq!(cache.deleted(), pairs(&expected));
    cache.rules.keep_generations = 3;
    assert_eq!(cache.deleted(), []);
}

#[test]
fn a_generation_that_a_running_job_may_have_read_stays_with_its_layers() {
    let mut cache = Cache::new();
    cache.layer(1, MAIN, (50, 50));
    cache.snapshot("k#g1", MAIN, (50, 2), Some(&[1]));
    cache.snapshot("k#g2", MAIN, (40, 40), Some(&[]));
    assert_eq!(cache.deleted(), []);
}

#[test]
fn a_generation_whose_content_belongs_to_a_newer_one_stays() {
    let mut cache = Cache::new();
    cache.layer(1, MAIN, (50, 50));
    cache.snapshot("k#g1", MAIN, (50, 50), Some(&[1]));
    cache.snapshot("k#g2", MAIN, (40, 40), Some(&[]));
    assert_eq!(cache.deleted().len(), 2);
    cache.contents.insert(
        "2".to_owned(),
        Content::Known { layers: BTreeSet::new(), unread: BTreeSet::from([1]), lanes: BTreeMap::new() },
    );
    assert_eq!(cache.deleted(), []);
}

/// The scope of a key, its age in hours, and which of its layers each lane uses.
type Key = (&'static str, u64, &'static [(&'static str, u8)]);

#[test]
fn layers_that_a_lane_of_the_default_branch_needs_are_refreshed_in_its_newest_key_only() {
    let mut cache = Cache::new();
    let keys: [Key; 4] = [
        (MAIN, 20, &[("build", 1), ("test", 1)]),
        // An older lock file, which the nightly job has seen last.
        (MAIN, 80, &[("build", 2), ("nightly", 3)]),
        // A job that runs once a week.
        (MAIN, 7 * 24 + 5, &[("weekly", 4), ("test", 5)]),
        (PULL, 20, &[("build", 6)]),
    ];
    for (number, (scope, hours, lanes)) in (1..).zip(keys) {
        let layers: Vec<u8> = lanes.iter().map(|(_, layer)| *layer).collect::<BTreeSet<_>>().into_iter().collect();
        for layer in &layers {
            cache.layer(*layer, scope, (200, 10));
        }
        cache.snapshot(&format!("k{number}#g1"), scope, (hours, 20), Some(&layers));
        let id = (cache.entries.len() - 1).to_string();
        let Some(Content::Known { lanes: known, .. }) = cache.contents.get_mut(&id) else { unreachable!() };
        known.extend(lanes.iter().map(|(lane, layer)| ((*lane).to_owned(), BTreeSet::from([layer_name(*layer)]))));
    }
    let names = |indexes: &[usize]| -> Vec<String> {
        indexes.iter().map(|index| cache.entries[*index].name.trim_start_matches('0').to_owned()).collect()
    };
    assert_eq!(names(&cache.plan().refresh), ["1", "3", "4"]);
    assert_eq!(decide(&View { records_lookups: false, ..cache.view() }).unwrap().refresh, [0; 0]);
}

#[test]
fn snapshots_that_were_not_read_are_asked_for_the_newest_first() {
    let mut cache = Cache::new();
    cache.snapshot("k#g1", MAIN, (50, 50), None);
    cache.snapshot("k#g2", MAIN, (40, 40), None);
    cache.contents.clear();
    assert_eq!(decide(&cache.view()), Err(vec![1]));
    cache.contents.insert("1".to_owned(), Content::Unknown("damaged".to_owned()));
    // A search falls back to older ones then.
    assert_eq!(decide(&cache.view()), Err(vec![0]));
    cache.contents.insert("0".to_owned(), Content::Unknown("damaged".to_owned()));
    assert_eq!(cache.plan().unknown, [1, 0]);
}

#[test]
fn what_a_snapshot_that_cannot_be_read_may_name_stays() {
    let mut cache = Cache::new();
    cache.layer(1, MAIN, (50, 30));
    cache.layer(2, MAIN, (50, 49));
    cache.layer(3, MAIN, (20, 20));
    cache.layer(4, PULL, (50, 40));
    cache.layer(5, "refs/heads/other", (50, 30));
    cache.snapshot("k#g1", MAIN, (40, 40), Some(&[]));
    assert_eq!(cache.deleted().len(), 5);
    cache.snapshot("k#g1", PULL, (24, 24), None);
    // Layer 2 was not asked for in the day before the snapshot was written, and layer 3 came later. Other may be its base.
    assert_eq!(cache.deleted(), pairs(&[("2", Reason::Orphaned), ("3", Reason::Orphaned)]));
    // Where lookups leave no trace, only the time of writing counts.
    assert_eq!(decide(&View { records_lookups: false, ..cache.view() }).unwrap().deletions.len(), 1);
    // A branch does not see the entries of other branches.
    cache.entries.last_mut().unwrap().scope = "refs/heads/mine".to_owned();
    let expected = [("2", Reason::Orphaned), ("4", Reason::Orphaned), ("5", Reason::Orphaned), ("3", Reason::Orphaned)];
    assert_eq!(cache.deleted(), pairs(&expected));
}

#[test]
fn references_that_nobody_reads_go_first_and_whole() {
    let mut cache = Cache::new();
    let queue = format!("{QUEUE}main/pr-1-abc");
    for (number, scope) in [(1, PULL), (2, &*queue), (3, "refs/heads/old"), (4, MAIN)] {
        cache.layer(number, scope, (1, 1));
        cache.snapshot("k#g1", scope, (1, 1), Some(&[number]));
    }
    assert_eq!(cache.deleted(), []);
    cache.refs.insert(PULL.to_owned(), RefState::Closed);
    cache.refs.insert(queue, RefState::QueueDone);
    cache.refs.insert("refs/heads/old".to_owned(), RefState::Deleted);
    let reasons = [ClosedPullRequest, MergeQueue, DeletedRef];
    let snapshots = reasons.map(|reason| ("k#g1", reason));
    let layers = [("1", ClosedPullRequest), ("2", MergeQueue), ("3", DeletedRef)];
    assert_eq!(cache.deleted(), pairs(&[snapshots, layers].concat()));
}

#[test]
fn a_key_that_nobody_used_goes_and_its_own_reads_do_not_count() {
    let mut cache = Cache::new();
    cache.layer(1, MAIN, (500, 400));
    cache.layer(2, MAIN, (500, 1));
    // The plan of yesterday has read both.
    cache.snapshot("old#g1", MAIN, (500, 24), Some(&[1, 2]));
    cache.snapshot("new#g1", MAIN, (400, 24), Some(&[2]));
    assert_eq!(cache.deleted(), pairs(&[("old#g1", Reason::Unused), ("1", Reason::Orphaned)]));
    cache.entries[0].accessed = Some(NOW - 10 * 24 * HOUR);
    assert_eq!(cache.deleted(), []);
    // Its layers were evicted.
    cache.entries.remove(0);
    cache.contents.insert(
        "2".into(),
        Content::Known { layers: [layer_name(1)].into(), unread: BTreeSet::new(), lanes: BTreeMap::new() },
    );
    assert_eq!(cache.deleted(), pairs(&[("old#g1", Reason::Unused)]));
    // A remote that does not record reads cannot tell.
    for entry in &mut cache.entries {
        entry.accessed = None;
    }
    assert_eq!(cache.deleted(), []);
}

#[test]
fn the_least_recently_used_key_goes_until_everything_fits() {
    let mut cache = Cache::new();
    for (number, hours) in [(1, 90), (2, 80), (3, 70)] {
        cache.layer(number, MAIN, (100, hours));
        cache.snapshot(&format!("k{number}#g1"), MAIN, (100, 100), Some(&[number, 9]));
    }
    cache.layer(9, MAIN, (100, 20));
    cache.add(None, "node-modules", MAIN, 150, (900, 900));
    cache.rules.max_total = Some(553);
    assert_eq!(cache.deleted(), []);
    cache.rules.max_total = Some(552);
    assert_eq!(cache.deleted(), pairs(&[("k1#g1", LeastRecentlyUsed), ("1", LeastRecentlyUsed)]));
    // The last key stays whatever the limit, with what it shares with others.
    cache.rules.max_total = Some(10);
    let plan = cache.plan();
    assert_eq!((plan.remaining, plan.target, plan.foreign), (201, Some(5), 150));
    let deleted: BTreeSet<String> = cache.deleted().into_iter().map(|(name, _)| name).collect();
    assert_eq!(deleted, ["1", "2", "k1#g1", "k2#g1"].map(str::to_owned).into());
}

#[test]
fn plans_and_histories_keep_the_generations_that_a_newer_one_may_not_have_read() {
    let mut cache = Cache::new();
    for number in 1..=8 {
        cache.add(Some(Kind::History), &format!("history-v1-nix#g{number}"), MAIN, 1, (100 - number, 90));
        cache.add(Some(Kind::Files), &format!("files/eval/k#g{number}"), MAIN, 1, (100 - number, 90));
    }
    cache.add(Some(Kind::Offer), "k#g29000000.01010101", MAIN, 1, (7, 7));
    cache.add(Some(Kind::Offer), "k#g29000001.01010101", MAIN, 1, (5, 5));
    let deleted = cache.deleted();
    let of = |what: &str| deleted.iter().filter(|(name, _)| name.starts_with(what)).count();
    assert_eq!((of("history"), of("files"), of("k#g")), (4, 7, 1));
}

/// Any entry: names of ours, names that are nearly ours, and names of others.
fn any_entry() -> impl Strategy<Value = Listed> {
    let kind = prop_oneof![Just(None), proptest::sample::select(Kind::ALL.to_vec()).prop_map(Some)];
    let name = prop_oneof![
        (0..12_u8).prop_map(layer_name),
        (0..12_u8, "[0-9a-f]{17,19}").prop_map(|(number, nonce)| format!("{}-{nonce}", layer_name(number))),
        ("[ab]", 1..6_u64).prop_map(|(key, number)| format!("{key}#g{number}")),
        "[ab#g0-9./-]{0,12}",
        "(files/)?[ab]/[ab]#g[1-9]",
        any::<String>(),
    ];
    let scope = proptest::sample::select(vec![MAIN, PULL, "refs/heads/other", "refs/heads/gone", ""]);
    (kind, name, scope, 0..1000_u64, 0..600_u64, proptest::option::of(0..600_u64)).prop_map(
        |(kind, name, scope, size, created, accessed)| Listed {
            id: String::new(),
            kind,
            name,
            scope: scope.to_owned(),
            size,
            created: NOW - created * HOUR,
            accessed: accessed.map(|hours| NOW - hours * HOUR),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_of_others_nothing_named_and_nothing_young_is_ever_in_a_plan(
        mut entries in proptest::collection::vec(any_entry(), 0..40),
        known in proptest::collection::vec(proptest::option::of(proptest::collection::btree_set(0..12_u8, 0..4)), 40),
        states in proptest::collection::vec(0..3_usize, 4),
        (keep_generations, keep_days, max_total) in (1..4_usize, 1..30_u64, proptest::option::of(0..5000_u64)),
        records_lookups in any::<bool>(),
    ) {
        let mut contents = BTreeMap::new();
        for (index, (entry, known)) in entries.iter_mut().zip(known).enumerate() {
            entry.id = index.to_string();
            let content = match known {
                Some(layers) => Content::Known { layers: layers.into_iter().map(layer_name).collect(), unread: BTreeSet::new(), lanes: BTreeMap::new() },
                None => Content::Unknown(String::new()),
            };
            contents.insert(entry.id.clone(), content);
        }
        let scopes = [MAIN, PULL, "refs/heads/other", "refs/heads/gone"];
        let state = |number: usize| [RefState::Live, RefState::Live, RefState::Deleted][number].clone();
        let mut refs: BTreeMap<String, RefState> =
            scopes.into_iter().zip(states).map(|(scope, number)| (scope.to_owned(), state(number))).collect();
        refs.insert(MAIN.to_owned(), RefState::Live);
        let rules = Rules { keep_generations, keep_days, max_total };
        let view = View {
            entries: &entries, refs: &refs, default_scope: Some(MAIN), contents: &contents, records_lookups, rules: &rules, now: NOW,
        };
        let plan = decide(&view).unwrap();
        let gone: BTreeSet<usize> = plan.deletions.iter().map(|(index, _)| *index).collect();
        prop_assert_eq!(gone.len(), plan.deletions.len());
        let own = |index: usize| entries[index].kind.and_then(|kind| own_name(kind, &entries[index].name));
        let is_layer = |index: usize| own(index) == Some(OwnName::Layer);
        for (index, reason) in &plan.deletions {
            let entry = &entries[*index];
            prop_assert!(own(*index).is_some(), "{:?} is not ours", entry.name);
            let is_dead = view.ref_state(&entry.scope) != &RefState::Live;
            prop_assert_eq!(is_dead, *reason == Reason::DeletedRef);
            prop_assert!(is_dead || NOW - entry.created >= GRACE, "{:?} is young", entry.name);
        }
        for snapshot in (0..entries.len()).filter(|index| entries[*index].kind == Some(Kind::Snapshot) && !gone.contains(index)) {
            if own(snapshot).is_none() {
                continue;
            }
            for layer in gone.iter().filter(|index| is_layer(**index)) {
                let is_live = view.ref_state(&entries[*layer].scope) == &RefState::Live;
                prop_assert!(!is_live || !view.may_name(snapshot, *layer));
            }
        }
        // Layers are last.
        let kinds: Vec<bool> = plan.deletions.iter().map(|(index, _)| is_layer(*index)).collect();
        prop_assert!(kinds.is_sorted());
        let left: u64 = (0..entries.len()).filter(|index| own(*index).is_some() && !gone.contains(index)).map(|index| entries[index].size).sum();
        prop_assert_eq!(left, plan.remaining);
        // Each series that is left in a live reference still has its newest generation.
        for (index, entry) in entries.iter().enumerate() {
            if let (Some(OwnName::Generation { series, number }), true) = (own(index), gone.contains(&index)) {
                let newer = |other: usize| {
                    other != index && entries[other].kind == entry.kind && entries[other].scope == entry.scope
                        && matches!(own(other), Some(OwnName::Generation { series: of, number: than }) if of == series && than >= number)
                };
                let left: Vec<usize> = (0..entries.len()).filter(|other| !gone.contains(other)).collect();
                let older_left = left.iter().any(|other| {
                    entries[*other].kind == entry.kind && entries[*other].scope == entry.scope
                        && matches!(own(*other), Some(OwnName::Generation { series: of, number: than }) if of == series && than < number)
                });
                prop_assert!(!older_left || left.iter().any(|other| newer(*other)), "{:?} went before older ones", entry.name);
            }
        }
    }
}
