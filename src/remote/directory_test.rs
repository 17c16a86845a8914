use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

use super::*;

fn remote() -> (tempfile::TempDir, DirectoryRemote) {
    let folder = tempfile::tempdir().unwrap();
    let remote = DirectoryRemote::open(&folder.path().join("cache")).unwrap();
    (folder, remote)
}

async fn put(remote: &DirectoryRemote, name: &str, body: &str) -> Put {
    remote.put_bytes(Kind::Snapshot, name, body.to_owned().into()).await.unwrap()
}

async fn found(remote: &DirectoryRemote, prefixes: &[&str]) -> Option<String> {
    let prefixes: Vec<String> = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
    remote.find(Kind::Snapshot, &prefixes).await.unwrap().map(|entry| entry.name)
}

fn pipe(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
}

fn make_old(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - 2 * LEFTOVER_AGE).unwrap();
}

#[tokio::test]
async fn an_entry_is_written_once_and_the_best_is_found() {
    let (folder, remote) = remote();
    assert_eq!(put(&remote, "a/b#g9", "one").await, Put::Stored);
    assert_eq!(put(&remote, "a/b#g9", "two").await, Put::Taken);
    assert_eq!(put(&remote, "a/b#g10", "three").await, Put::Stored);
    let now = SystemTime::now();
    for name in ["a%2Fb#g9", "a%2Fb#g10"] {
        let path = folder.path().join("cache/snapshot").join(name);
        File::options().write(true).open(path).unwrap().set_modified(now).unwrap();
    }
    assert_eq!(found(&remote, &["x", "a/b#g"]).await.unwrap(), "a/b#g10");
    assert_eq!(found(&remote, &["a/b#g9", "a/b#g"]).await.unwrap(), "a/b#g9");
    assert_eq!(found(&remote, &["b"]).await, None);
    let entry = remote.find(Kind::Snapshot, &["a/b#g9".into()]).await.unwrap().unwrap();
    assert_eq!((entry.size, &*remote.read(&entry, 1..3).await.unwrap()), (Some(3), &b"ne"[..]));
    assert!(matches!(remote.read(&entry, 1..4).await, Err(RemoteError::Short(_))));
    // Nothing is allocated for it.
    assert!(matches!(remote.read(&entry, 0..u64::MAX).await, Err(RemoteError::Short(_))));
    assert_eq!(fs::read_dir(folder.path().join("cache/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_is_not_a_regular_file_is_not_an_entry_and_is_never_waited_for() {
    let (folder, remote) = remote();
    let place = folder.path().join("cache/snapshot");
    fs::write(folder.path().join("secret"), "secret").unwrap();
    pipe(&folder.path().join("pipe"));
    pipe(&place.join("k#g1"));
    symlink(folder.path().join("pipe"), place.join("k#g2")).unwrap();
    symlink(folder.path().join("secret"), place.join("k#g3")).unwrap();
    symlink("/dev/zero", place.join("k#g4")).unwrap();
    fs::create_dir(place.join("k#g5")).unwrap();
    assert_eq!(found(&remote, &["k#g"]).await, None);
    assert_eq!(Shelf::list(&remote).await.unwrap(), []);
    for number in 1..=5 {
        let name = format!("k#g{number}");
        // What was a file when it was found may be something else when it is read.
        let entry = Entry { kind: Kind::Snapshot, name: name.clone(), size: Some(6), location: String::new() };
        let error = remote.read(&entry, 0..6).await.unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
        let error = remote.stream(&entry).await.err().unwrap().to_string();
        assert!(error.contains("not a regular file") && error.contains(&name), "{error}");
        assert_eq!(put(&remote, &name, "new").await, Put::Taken);
    }
}

#[test]
fn a_link_in_place_of_a_folder_is_not_followed() {
    let names: BTreeSet<&str> = Kind::ALL.map(Kind::word).into_iter().chain([TMP]).collect();
    for name in names {
        let folder = tempfile::tempdir().unwrap();
        let (cache, others) = (folder.path().join("cache"), folder.path().join("others"));
        fs::create_dir(&cache).unwrap();
        fs::create_dir(&others).unwrap();
        fs::write(others.join("precious"), "").unwrap();
        make_old(&others.join("precious"));
        symlink(&others, cache.join(name)).unwrap();
        let error = DirectoryRemote::named(&cache).unwrap_err();
        assert!(error.contains(&format!("`{name}`")) && error.contains("Links are not followed"), "{error}");
        assert!(others.join("precious").exists(), "{name}");
    }
}

#[tokio::test]
async fn a_folder_that_becomes_a_link_is_not_followed_either() {
    let (folder, remote) = remote();
    put(&remote, "k#g1", "one").await;
    let (cache, others) = (folder.path().join("cache"), folder.path().join("others"));
    let [listed] = <[Listed; 1]>::try_from(Shelf::list(&remote).await.unwrap()).unwrap();
    let entry = remote.find(Kind::Snapshot, &["k#g1".into()]).await.unwrap().unwrap();
    fs::rename(cache.join("snapshot"), &others).unwrap();
    symlink(&others, cache.join("snapshot")).unwrap();
    assert!(remote.put_bytes(Kind::Snapshot, "k#g2", Bytes::new()).await.is_err());
    assert!(remote.read(&entry, 0..1).await.is_err() && remote.find(Kind::Snapshot, &["k".into()]).await.is_err());
    assert!(Shelf::delete(&remote, &listed).await.is_err() && Shelf::list(&remote).await.is_err());
    assert_eq!(fs::read_dir(&others).unwrap().count(), 1);
}

#[test]
fn only_old_leftovers_are_removed() {
    let (folder, _) = remote();
    let tmp = folder.path().join("cache/tmp");
    fs::write(tmp.join("old"), "").unwrap();
    make_old(&tmp.join("old"));
    fs::write(tmp.join("new"), "").unwrap();
    DirectoryRemote::open(&folder.path().join("cache")).unwrap();
    let left: Vec<_> = fs::read_dir(tmp).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["new"]);
}
