//! Tests of [`super`] with a cache in memory that misbehaves.

use std::fs;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::*;
use crate::layer::hash_and_size_of;
use crate::push::Work;
use crate::series::sign::Keyring;
use crate::store::StoreDirs;

/// What was written, in order. Refuses names for which `refuse` has an answer.
struct Memory<F> {
    written: Mutex<Vec<String>>,
    refuse: F,
}

#[async_trait]
impl<F: Fn(&str, u64) -> Option<ObjectError> + Send + Sync> Objects for Memory<F> {
    fn place(&self) -> &'static str {
        "memory"
    }

    async fn read(&self, _: &str, _: usize) -> Result<Option<Vec<u8>>, ObjectError> {
        Ok(None)
    }

    async fn write(&self, name: &str, source: &Source) -> Result<(), ObjectError> {
        // Others have a turn before it is written.
        tokio::task::yield_now().await;
        if let Some(error) = (self.refuse)(name, source.size()) {
            return Err(error);
        }
        self.written.lock().unwrap().push(name.to_owned());
        Ok(())
    }
}

fn memory<F>(refuse: F) -> Memory<F> {
    Memory { written: Mutex::default(), refuse }
}

/// Paths with these names and references, in a store of their own.
fn scene(paths: &[(&str, &[&str])]) -> (tempfile::TempDir, Work, Vec<PathInfo>) {
    let root = tempfile::tempdir().unwrap();
    let dirs = StoreDirs::new(Some(root.path()));
    let path = |name: &str| -> StorePath {
        let first = name.chars().next().unwrap().to_string();
        format!("{}-{name}", first.repeat(32)).parse().unwrap()
    };
    let info = |(name, references): &(&str, &[&str])| {
        let real = dirs.real(&path(name));
        fs::create_dir_all(&real).unwrap();
        fs::write(real.join("name"), name).unwrap();
        let (nar_hash, nar_size) = hash_and_size_of(&real).unwrap();
        let references = references.iter().map(|name| path(name)).collect();
        PathInfo { nar_hash, nar_size, references, ..PathInfo::sample(path(name)) }
    };
    let infos = paths.iter().map(info).collect();
    let work = Work {
        dirs: dirs.clone(),
        keys: Keyring::default(),
        folder: root.path().to_owned(),
        deadline: None,
        pushed: Arc::default(),
        most: None,
        turn: None,
    };
    (root, work, infos)
}

fn names(paths: impl IntoIterator<Item = StorePath>) -> Vec<String> {
    paths.into_iter().map(|path| path.name().to_owned()).collect()
}

const TREE: &[(&str, &[&str])] = &[
    ("app", &["lib", "data", "app"]),
    ("lib", &["zlib", "lib"]),
    ("zlib", &[]),
    ("data", &[]),
    ("sh", &["zlib"]),
    ("yes", &["none"]),
];

#[tokio::test]
async fn a_path_is_announced_after_its_archive_and_all_that_it_refers_to() {
    let (_root, work, infos) = scene(TREE);
    let (infos, cache) = (infos.iter().collect::<Vec<_>>(), memory(|_: &str, _| None));
    let done = upload(&work, "memory", &cache, &infos).await;
    assert_eq!(done.pushed.len(), infos.len(), "{:?}", done.left_out);
    assert!(done.stop.is_none() && done.bytes > 0);
    let written = cache.written.into_inner().unwrap();
    let at = |name: &str| written.iter().position(|written| written == name);
    let announced = |path: &StorePath| at(&narinfo::name(path));
    for info in &infos {
        let own = announced(&info.path).unwrap();
        for reference in info.references.iter().filter(|path| **path != info.path) {
            assert!(announced(reference).is_none_or(|other| other < own), "{} after {}", info.path, reference);
        }
    }
    assert_eq!(written.iter().filter(|name| name.starts_with("nar/")).count(), infos.len());
    assert!(written[0].starts_with("nar/"));
}

#[test]
fn sorted_paths_follow_those_that_they_refer_to() {
    let (_root, _, infos) = scene(TREE);
    let infos: Vec<_> = infos.iter().collect();
    let sorted = sorted(&infos);
    assert_eq!(sorted.len(), infos.len());
    let at = |path: &StorePath| sorted.iter().position(|info| info.path == *path);
    for info in &infos {
        for reference in info.references.iter().filter(|path| **path != info.path) {
            assert!(at(reference).is_none_or(|other| Some(other) < at(&info.path)), "{}", info.path);
        }
    }
}

#[tokio::test]
async fn what_is_too_large_or_damaged_is_left_out_with_its_referrers_alone() {
    let (_root, work, infos) = scene(TREE);
    let lib = infos.iter().find(|info| info.path.name() == "lib").unwrap();
    let large = narinfo::archive(&pack(&work.dirs, lib, &work.folder).unwrap());
    let infos: Vec<_> = infos.iter().collect();
    let cache = memory(move |name: &str, _| (name == large).then(|| ObjectError::TooLarge("too large".into())));
    let done = upload(&work, "memory", &cache, &infos).await;
    assert_eq!(names(done.pushed), ["data", "sh", "yes", "zlib"]);
    assert_eq!(
        (names(done.left_out.into_iter().map(|(path, _)| path)), done.stop.is_none()),
        (vec!["lib".to_owned()], true)
    );

    fs::write(work.dirs.real(&infos[2].path).join("name"), "zlub").unwrap();
    let done = upload(&work, "memory", &memory(|_: &str, _| None), &infos).await;
    assert_eq!((names(done.pushed), done.left_out.len()), (vec!["data".to_owned(), "yes".to_owned()], 1));
}

#[tokio::test]
async fn a_sink_that_refuses_is_not_asked_for_more() {
    let (_root, work, infos) = scene(TREE);
    let infos: Vec<_> = infos.iter().collect();
    let tries = Mutex::new(0);
    let cache = memory(|_: &str, _| {
        *tries.lock().unwrap() += 1;
        Some(ObjectError::Refused("no".into()))
    });
    let done = upload(&work, "memory", &cache, &infos).await;
    assert!(matches!(done.stop, Some(Stop::Sink(ObjectError::Refused(_)))) && done.pushed.is_empty());
    assert!(*tries.lock().unwrap() <= PARALLEL);
}

#[tokio::test]
async fn at_the_deadline_nothing_more_begins_and_what_is_announced_stays() {
    let (_root, work, infos) = scene(TREE);
    let work = Work { deadline: Some(std::time::Instant::now()), ..work };
    let infos: Vec<_> = infos.iter().collect();
    let done = upload(&work, "memory", &memory(|_: &str, _| None), &infos).await;
    assert!(matches!(done.stop, Some(Stop::OutOfTime)) && done.pushed.len() <= PARALLEL);
}

#[test]
fn a_part_has_everything_that_it_refers_to_and_at_least_one_path() {
    let (_root, _, infos) = scene(TREE);
    let all: Vec<&PathInfo> = infos.iter().collect();
    let size: u64 = infos.iter().map(|info| info.nar_size).sum();
    for (most, least) in [(None, all.len()), (Some(size), all.len()), (Some(size / 2), 2), (Some(0), 1)] {
        let mut chosen = all.clone();
        let later = part(&mut chosen, most);
        assert_eq!(chosen.len() + later as usize, all.len());
        assert!(chosen.len() >= least && (least == all.len() || later > 0), "{most:?}");
        let names: Vec<&StorePath> = chosen.iter().map(|info| &info.path).collect();
        let is_there = |path: &StorePath| names.contains(&path) || !all.iter().any(|info| info.path == *path);
        assert!(chosen.iter().all(|info| info.references.iter().all(is_there)), "{most:?}");
    }
    assert_eq!(part(&mut Vec::new(), Some(5)), 0);
}
