//! Plans from real snapshots, and what is left wherever a run is killed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;

use super::execute::carry_out;
use super::prepare::{Place, plan_for};
use super::view::{HOUR, Rules};
use crate::base::clock::now;
use crate::base::digest::Sha;
use crate::layer::digest::Digests;
use crate::remote::{DirectoryRemote, Kind, ListError, Listed, Remote, Shelf};
use crate::series::record::encode;
use crate::series::sign::Keyring;
use crate::snapshot::{Snapshot, Stored};
use crate::store::{NarHash, PathInfo};

const RULES: Rules = Rules { keep_generations: 1, keep_days: 14, max_total: None };

/// A directory with entries of any age, which breaks off after some deletions.
struct Aged {
    directory: DirectoryRemote,
    /// Names of entries that were stored just now; all others are three days old.
    young: Mutex<BTreeSet<String>>,
    deletions_left: Mutex<usize>,
    /// What another job stores after the first deletion.
    meanwhile: Mutex<Option<Snapshot>>,
}

#[async_trait]
impl Shelf for Aged {
    fn describe(&self) -> String {
        "a test".to_owned()
    }

    async fn list(&self) -> Result<Vec<Listed>, ListError> {
        let mut all = Shelf::list(&self.directory).await?;
        let young = self.young.lock().unwrap().clone();
        for entry in &mut all {
            entry.created = if young.contains(&entry.name) { now() } else { now() - 72 * HOUR };
            entry.accessed = Some(entry.created);
        }
        Ok(all)
    }

    async fn delete(&self, entry: &Listed) -> Result<(), ListError> {
        {
            let mut left = self.deletions_left.lock().unwrap();
            *left = left.checked_sub(1).ok_or_else(|| ListError::Failed("It is killed.".to_owned()))?;
        }
        Shelf::delete(&self.directory, entry).await?;
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(snapshot) = meanwhile {
            self.young.lock().unwrap().insert("k#g9".to_owned());
            put(&self.directory, &snapshot, "k#g9").await;
        }
        Ok(())
    }
}

pub(super) fn digests(number: u8) -> Digests {
    Digests { size: 1000, chunks: vec![Sha([number; 32])] }
}

/// A snapshot with these layers, one path in each.
pub(super) fn snapshot(layers: &[u8]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for number in layers {
        let info = PathInfo {
            nar_hash: NarHash([*number; 32]),
            ..PathInfo::sample(format!("{number:032}-p").parse().unwrap())
        };
        let digests = digests(*number);
        let stored = Stored { digests: digests.clone(), entry: digests.id().to_string() };
        snapshot.add_layer((digests, None), stored, [info], 1);
    }
    snapshot
}

async fn put(remote: &DirectoryRemote, snapshot: &Snapshot, name: &str) {
    let bytes = encode(snapshot, name, &Keyring::default()).unwrap();
    remote.put_bytes(Kind::Snapshot, name, bytes.into()).await.unwrap();
}

/// Layers 1 to 6; two generations of `k`, one of another key, and an orphaned layer.
async fn fill(root: &Path) -> DirectoryRemote {
    let remote = DirectoryRemote::open(root).unwrap();
    for number in 1..=6 {
        let name = digests(number).id().to_string();
        remote.put_bytes(Kind::Layer, &name, vec![0; 1000].into()).await.unwrap();
    }
    for (name, layers) in [("k#g1", &[1, 2][..]), ("k#g2", &[2, 3, 4]), ("k#g3", &[4]), ("other#g1", &[5, 3])] {
        put(&remote, &snapshot(layers), name).await;
    }
    std::fs::write(root.join("layer/notes.txt"), "not ours").unwrap();
    std::fs::create_dir(root.join("snapshot/k#g7")).unwrap();
    remote
}

fn shelf(directory: DirectoryRemote, deletions: usize) -> Aged {
    let (young, deletions_left) = (Mutex::default(), Mutex::new(deletions));
    Aged { directory, young, deletions_left, meanwhile: Mutex::default() }
}

async fn prune(shelf: &Aged) -> Vec<String> {
    let place = Place {
        shelf,
        remote: Some(&shelf.directory),
        scopes: Vec::new(),
        rules: RULES,
        now: crate::base::clock::now(),
    };
    let prepared = plan_for(&place, None).await.unwrap();
    assert!(prepared.plan.unknown.is_empty());
    carry_out(&place, prepared).await.deleted.into_iter().map(|(entry, _)| entry.name).collect()
}

/// The names of layers that a snapshot in the directory names and that are not there.
async fn missing(root: &Path) -> Vec<String> {
    let remote = DirectoryRemote::open(root).unwrap();
    let (mut named, mut there) = (BTreeSet::new(), BTreeSet::new());
    for entry in Shelf::list(&remote).await.unwrap() {
        if entry.kind == Some(Kind::Snapshot) {
            let found = remote.find(Kind::Snapshot, std::slice::from_ref(&entry.name)).await.unwrap().unwrap();
            let bytes = remote.read(&found, 0..entry.size).await.unwrap();
            let decoded = crate::series::record::decode::<Snapshot>(&bytes, &entry.name, &Keyring::default()).unwrap();
            named.extend(decoded.0.stored.into_values().map(|stored| stored.entry));
        } else {
            there.insert(entry.name);
        }
    }
    named.difference(&there).cloned().collect()
}

#[tokio::test]
async fn wherever_a_run_is_killed_no_snapshot_lacks_a_layer_and_the_next_run_does_the_rest() {
    let mut all: Option<Vec<String>> = None;
    for deletions in (0..=6).rev() {
        let folder = tempfile::tempdir().unwrap();
        let killed = shelf(fill(folder.path()).await, deletions);
        let first = prune(&killed).await;
        assert_eq!(first.len(), deletions.min(5));
        assert_eq!(missing(folder.path()).await, [""; 0], "after {deletions} deletions");
        let rest = prune(&shelf(killed.directory, 99)).await;
        let done = [first, rest].concat();
        let all = all.get_or_insert_with(|| done.clone());
        assert_eq!(done.iter().collect::<BTreeSet<_>>(), all.iter().collect());
        assert!(folder.path().join("layer/notes.txt").exists() && folder.path().join("snapshot/k#g7").is_dir());
        assert_eq!(prune(&shelf(DirectoryRemote::open(folder.path()).unwrap(), 99)).await, [""; 0]);
    }
    let layers = [1, 2, 6].map(|number| digests(number).id().to_string());
    let mut expected = BTreeSet::from(["k#g1".to_owned(), "k#g2".to_owned()]);
    expected.extend(layers);
    assert_eq!(all.unwrap().into_iter().collect::<BTreeSet<_>>(), expected);
}

#[tokio::test]
async fn a_layer_that_a_job_names_while_a_run_deletes_stays() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = shelf(fill(folder.path()).await, 99);
    // Another job has the bytes of the orphaned layer, finds them in the cache, and names them.
    *shelf.meanwhile.lock().unwrap() = Some(snapshot(&[4, 6]));
    let gone = prune(&shelf).await;
    assert!(!gone.contains(&digests(6).id().to_string()), "{gone:?}");
    assert_eq!(missing(folder.path()).await, [""; 0]);
}

#[tokio::test]
async fn what_a_damaged_snapshot_may_name_stays() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = shelf(fill(folder.path()).await, 99);
    let file = folder.path().join("snapshot/k#g3");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(file, bytes).unwrap();
    let place = Place {
        shelf: &shelf,
        remote: Some(&shelf.directory),
        scopes: Vec::new(),
        rules: RULES,
        now: crate::base::clock::now(),
    };
    let prepared = plan_for(&place, None).await.unwrap();
    assert_eq!((prepared.plan.deletions.len(), prepared.plan.unknown.len()), (0, 1));
    let why = prepared.unread.values().next().unwrap();
    assert!(why.contains("digest"), "{why}");
    // A machine that cannot read snapshots at all deletes no layer.
    let blind = Place { remote: None, ..place };
    assert_eq!(plan_for(&blind, None).await.unwrap().plan.deletions, []);
}
