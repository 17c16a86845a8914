use super::*;
use crate::remote::DirectoryRemote;

fn folder(folder: &tempfile::TempDir) -> Arc<DirectoryRemote> {
    Arc::new(DirectoryRemote::named(folder.path()).unwrap())
}

fn broken(name: &str) -> Arc<dyn Remote> {
    Arc::new(Unopened { name: name.to_owned(), why: "it is broken.".to_owned() })
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

async fn put(remote: &dyn Remote, kind: Kind, name: &str, text: &'static str) {
    assert_eq!(remote.put_bytes(kind, name, Bytes::from_static(text.as_bytes())).await.unwrap(), Put::Stored);
}

fn two(main: Arc<dyn Remote>, other: Arc<dyn Remote>, purpose: Purpose) -> Fallbacks {
    Fallbacks::new(main, vec![Fallback { remote: other, has_layers: true }], purpose)
}

async fn found(remote: &Fallbacks, kind: Kind, prefixes: &[&str]) -> Option<String> {
    let entry = remote.find(kind, &names(prefixes)).await.unwrap()?;
    Some(String::from_utf8(remote.read(&entry, 0..1).await.unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn the_nearest_snapshot_wins_and_layers_come_from_wherever_they_are() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [main, other] = [folder(&folders[0]), folder(&folders[1])];
    put(&*main, Kind::Snapshot, "far#g9", "m").await;
    put(&*main, Kind::Snapshot, "same#g1", "m").await;
    put(&*main, Kind::Layer, "one", "m").await;
    put(&*other, Kind::Snapshot, "near#g2", "o").await;
    put(&*other, Kind::Snapshot, "same#g7", "o").await;
    put(&*other, Kind::Layer, "two", "o").await;
    put(&*other, Kind::History, "job#g1", "o").await;
    let both = two(main.clone(), other, Purpose::Save);
    let snapshot = Kind::Snapshot;
    assert_eq!(found(&both, snapshot, &["near#g", "far"]).await.as_deref(), Some("o"));
    assert_eq!(found(&both, snapshot, &["far", "near#g"]).await.as_deref(), Some("m"));
    assert_eq!(found(&both, snapshot, &["same#g"]).await.as_deref(), Some("m"), "equally near");
    assert_eq!(found(&both, snapshot, &["same#g7"]).await.as_deref(), Some("o"), "an exact name");
    assert_eq!(found(&both, snapshot, &["nothing"]).await, None);
    assert_eq!(found(&both, Kind::Layer, &["one"]).await.as_deref(), Some("m"));
    assert_eq!(found(&both, Kind::Layer, &["two"]).await.as_deref(), Some("o"));
    assert_eq!(found(&both, Kind::History, &["job#g"]).await, None, "histories are those of the main remote");
    // What is written goes to the main remote.
    put(&both, Kind::Layer, "three", "n").await;
    assert!(main.find(Kind::Layer, &names(&["three"])).await.unwrap().is_some());
    assert!(both.troubles().lock().unwrap().is_empty());
    assert!(
        both.read(&Entry { kind: snapshot, name: "x".into(), size: None, location: "/etc/passwd".into() }, 0..1)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn trouble_with_another_remote_is_told_once_and_hides_no_layer() {
    let temporary = tempfile::tempdir().unwrap();
    let main = folder(&temporary);
    put(&*main, Kind::Snapshot, "a#g1", "m").await;
    put(&*main, Kind::Layer, "one", "m").await;
    let both = two(main, broken("the other one"), Purpose::Save);
    for _ in 0..2 {
        assert_eq!(found(&both, Kind::Snapshot, &["a#g"]).await.as_deref(), Some("m"));
        assert_eq!(found(&both, Kind::Snapshot, &["b#g"]).await, None);
    }
    assert_eq!(found(&both, Kind::Layer, &["one"]).await.as_deref(), Some("m"));
    // Nobody knows whether the other one has it: it does not count as lost.
    assert!(both.find(Kind::Layer, &names(&["two"])).await.is_err());
    let troubles = both.troubles().lock().unwrap().clone();
    assert!(
        troubles.len() == 1 && troubles[0].contains("the other one") && troubles[0].contains("broken"),
        "{troubles:?}"
    );
}

#[tokio::test]
async fn without_the_main_remote_a_restore_goes_on_and_a_save_does_not() {
    let temporary = tempfile::tempdir().unwrap();
    let other = folder(&temporary);
    put(&*other, Kind::Snapshot, "a#g1", "o").await;
    put(&*other, Kind::Layer, "one", "o").await;
    let restore = two(broken("main"), other.clone(), Purpose::Restore);
    assert_eq!(found(&restore, Kind::Snapshot, &["a#g"]).await.as_deref(), Some("o"));
    assert_eq!(found(&restore, Kind::Layer, &["one"]).await.as_deref(), Some("o"));
    assert_eq!(restore.troubles().lock().unwrap().len(), 1);
    assert!(restore.find(Kind::Snapshot, &names(&["b#g"])).await.is_err(), "a miss is not known");
    let save = two(broken("main"), other, Purpose::Save);
    assert!(save.find(Kind::Snapshot, &names(&["a#g"])).await.is_err());
    assert!(save.put_bytes(Kind::Layer, "x", Bytes::from_static(b"x")).await.is_err());
}
