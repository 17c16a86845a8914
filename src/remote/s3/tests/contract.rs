//! What every remote promises, on the real server.

use futures_util::TryStreamExt;
use futures_util::future::join_all;

use super::super::moto::plain;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_written_once_and_read_whole_in_ranges_and_as_a_stream() {
    let Some(scene) = scene() else { return };
    let remote = scene.remote();
    let (small, large) = (noise(1000), noise(11 << 20));
    let name = "key/with a slash, 100%2F #g1+&=ü";
    assert_eq!(remote.put_bytes(Kind::Snapshot, name, small.clone()).await.unwrap(), Put::Stored);
    assert_eq!(remote.put_bytes(Kind::Snapshot, name, noise(5)).await.unwrap(), Put::Taken);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &large).unwrap();
    // In three parts, and the second time not at all.
    assert_eq!(remote.put_file(Kind::Layer, "layer", file.path()).await.unwrap(), Put::Stored);
    assert_eq!(remote.put_file(Kind::Layer, "layer", file.path()).await.unwrap(), Put::Taken);
    for (kind, name, bytes) in [(Kind::Snapshot, name, &small), (Kind::Layer, "layer", &large)] {
        let entry = remote.find(kind, &[name.to_owned()]).await.unwrap().unwrap();
        assert_eq!((entry.name.as_str(), entry.size), (name, Some(bytes.len() as u64)));
        let size = bytes.len() as u64;
        for range in [0..size, 0..1, size - 1..size, size / 3..size / 2] {
            let read = remote.read(&entry, range.clone()).await.unwrap();
            assert_eq!(read, bytes[range.start as usize..range.end as usize]);
        }
        let pieces: Vec<Bytes> = remote.stream(&entry).await.unwrap().try_collect().await.unwrap();
        assert_eq!(pieces.concat(), bytes[..]);
        assert!(matches!(remote.read(&entry, size - 1..size + 1).await, Err(RemoteError::Short(_))));
    }
    assert!(remote.ranges_work());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_a_sink_is_replaced_with_one_request_and_in_parts() {
    let Some(scene) = scene() else { return };
    let client = scene.client();
    for bytes in [noise(1000), noise(11 << 20), noise(6 << 20), noise(5)] {
        client.put("nar/x", &Source::Bytes(bytes.clone())).await.unwrap();
        assert_eq!(client.get("nar/x", 12 << 20).await.unwrap().unwrap(), bytes);
    }
    // Nothing but the object: no proof of conditions, which a sink does not need.
    let keys: Vec<String> = client.list("").await.unwrap().into_iter().map(|object| object.key).collect();
    assert_eq!(keys, ["nar/x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_returns_the_exact_name_or_the_newest_of_the_first_prefix_that_has_one() {
    let Some(scene) = scene() else { return };
    let remote = scene.remote();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for name in ["k#g1", "k#g2", "k#g9", "k#g10", "other#g1"] {
        remote.put_bytes(Kind::Snapshot, name, noise(10)).await.unwrap();
    }
    let found =
        async |prefixes: &[&str]| remote.find(Kind::Snapshot, &names(prefixes)).await.unwrap().map(|entry| entry.name);
    assert_eq!(found(&["k#g"]).await.as_deref(), Some("k#g10"), "written in the same second: the greater number");
    assert_eq!(found(&["k#g1"]).await.as_deref(), Some("k#g1"), "the exact name goes before a newer one");
    assert_eq!(found(&["none", "other", "k#g"]).await.as_deref(), Some("other#g1"));
    assert_eq!((found(&["none"]).await, found(&[]).await), (None, None));
    assert!(remote.find(Kind::Plan, &names(&["k#g"])).await.unwrap().is_none(), "each kind is a namespace");
    let entry = remote.find(Kind::Snapshot, &names(&["k#g2"])).await.unwrap().unwrap();
    scene.client().delete(&entry.location).await.unwrap();
    assert!(matches!(remote.read(&entry, 0..1).await, Err(RemoteError::Gone(_))));
    assert_eq!(found(&["k#g2"]).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_one_wins() {
    let Some(scene) = scene() else { return };
    let (one, other) = (scene.remote(), scene.remote());
    for round in 0..5 {
        let name = format!("k#g{round}");
        let puts = join_all((0..8_u8).map(|writer| {
            let remote = if writer % 2 == 0 { &one } else { &other };
            remote.put_bytes(Kind::Snapshot, &name, Bytes::from(vec![writer; 100]))
        }));
        let puts: Vec<Put> = puts.await.into_iter().map(Result::unwrap).collect();
        let won: Vec<usize> = (0..8).filter(|writer| puts[*writer] == Put::Stored).collect();
        assert_eq!(won.len(), 1, "{puts:?}");
        let entry = one.find(Kind::Snapshot, std::slice::from_ref(&name)).await.unwrap().unwrap();
        assert_eq!(one.read(&entry, 0..100).await.unwrap(), vec![won[0] as u8; 100]);
    }
    // Large ones, in parts: the condition is that of the last request.
    let body = noise(6 << 20);
    let puts = join_all((0..3).map(|_| one.put_bytes(Kind::Files, "large", body.clone()))).await;
    assert_eq!(puts.into_iter().filter(|put| *put.as_ref().unwrap() == Put::Stored).count(), 1);
    let left = plain(scene.server, "GET", &format!("/{}?uploads", scene.bucket));
    assert!(!left.contains("<UploadId>"), "uploads that lost are aborted: {left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_shared_and_everything_else_belongs_to_its_repository() {
    let Some(scene) = scene() else { return };
    let (ours, theirs) = (scene.remote(), S3Remote::new(scene.client(), "other/repo"));
    for kind in Kind::ALL {
        ours.put_bytes(kind, "name", noise(10)).await.unwrap();
        let found = theirs.find(kind, &["name".to_owned()]).await.unwrap();
        assert_eq!(found.is_some(), kind == Kind::Layer, "{kind:?}");
    }
    // Nothing leaves the prefix of the address.
    let keys = plain(scene.server, "GET", &format!("/{}?list-type=2", scene.bucket));
    assert_eq!(keys.matches("<Key>").count(), keys.matches("<Key>ci/v1/").count(), "{keys}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_read_to_their_last_page() {
    let Some(scene) = scene() else { return };
    let client = scene.client();
    let source = Source::Bytes(noise(1));
    join_all((0..12).map(|number| {
        let (client, source) = (client.clone(), source.clone());
        async move { client.put_if_absent(&format!("v1/x/{number:04}"), &source).await.unwrap() }
    }))
    .await;
    let listed = client.list("v1/x/").await.unwrap();
    assert_eq!((listed.len(), &*listed[11].key), (12, "v1/x/0011"));
    assert!(listed.iter().all(|object| object.size == 1 && object.modified > 1_700_000_000_000));
    client.delete("v1/x/0000").await.unwrap();
    client.delete("v1/x/0000").await.unwrap();
    assert_eq!(client.list("v1/x/000").await.unwrap().len(), 9);
    assert_eq!(client.get("v1/x/0001", 10).await.unwrap().unwrap(), noise(1));
    assert_eq!(client.get("v1/x/0000", 10).await.unwrap(), None);
    assert!(client.get("v1/x/0001", 0).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_a_killed_job_left_is_aborted_by_the_next() {
    let Some(scene) = scene() else { return };
    let uploads = || plain(scene.server, "GET", &format!("/{}?uploads", scene.bucket)).matches("<UploadId>").count();
    let begin = |key: &str| plain(scene.server, "POST", &format!("/{}/{key}?uploads", scene.bucket));
    // A job that was killed, another user of the bucket, and our own folder of another address.
    for key in ["ci/v1/layer/killed", "ci/mine", "elsewhere/v1/layer/x"] {
        assert!(begin(key).contains("<UploadId>"));
    }
    let patient = S3Remote::new(scene.client_with(Tuning { upload_age: Duration::MAX, ..small() }), "a/b");
    patient.put_bytes(Kind::Layer, "one", noise(200_000)).await.unwrap();
    assert_eq!(uploads(), 3, "none is old enough");
    scene.remote().put_bytes(Kind::Layer, "two", noise(200_000)).await.unwrap();
    assert_eq!(uploads(), 2, "only our own is aborted");
}
