//! Pruning a bucket that two repositories use, on a real server, killed anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::execute::carry_out;
use super::kill_test::{digests, snapshot};
use super::prepare::{Place, plan_for};
use super::view::{HOUR, Rules};
use crate::base::clock::now;
use crate::remote::github::Tuning;
use crate::remote::s3::moto::{KEYS, bucket, put_plainly, server};
use crate::remote::s3::{S3Address, S3Client, S3Remote, S3Shelf};
use crate::remote::{Kind, ListError, Listed, Remote, Shelf};
use crate::series::record::encode;
use crate::series::sign::Keyring;

/// A bucket whose entries are three days old, and which breaks off after some deletions.
struct Aged {
    shelf: S3Shelf,
    deletions_left: Mutex<usize>,
}

#[async_trait]
impl Shelf for Aged {
    fn describe(&self) -> String {
        self.shelf.describe()
    }

    async fn list(&self) -> Result<Vec<Listed>, ListError> {
        let aged = |entry: Listed| Listed { created: now() - 72 * HOUR, ..entry };
        Ok(self.shelf.list().await?.into_iter().map(aged).collect())
    }

    async fn delete(&self, entry: &Listed) -> Result<(), ListError> {
        {
            let mut left = self.deletions_left.lock().unwrap();
            *left = left.checked_sub(1).ok_or_else(|| ListError::Failed("It is killed.".to_owned()))?;
        }
        self.shelf.delete(entry).await
    }

    fn remote_of(&self, scope: &str) -> Option<Arc<dyn Remote>> {
        self.shelf.remote_of(scope)
    }
}

async fn prune(client: &S3Client, deletions: usize) -> BTreeSet<String> {
    let shelf = Aged { shelf: S3Shelf::new(client.clone()), deletions_left: Mutex::new(deletions) };
    let rules = Rules { keep_generations: 1, keep_days: 14, max_total: None };
    let place = Place { shelf: &shelf, remote: None, scopes: Vec::new(), rules, now: crate::base::clock::now() };
    let prepared = plan_for(&place, None).await.unwrap();
    assert!(prepared.unread.is_empty(), "{:?}", prepared.unread);
    carry_out(&place, prepared).await.deleted.into_iter().map(|(entry, _)| entry.id).collect()
}

fn layer(number: u8) -> String {
    digests(number).id().to_string()
}

#[tokio::test]
async fn what_either_repository_names_stays_wherever_a_run_is_killed() {
    let Some(server) = server() else { return };
    let variables: BTreeMap<&str, &str> = KEYS.into_iter().collect();
    let bucket = bucket(server);
    let address = S3Address::parse(&format!("{bucket}/ci?endpoint=http://{server}")).unwrap();
    // So that the list has several pages.
    let tuning = Tuning { list_page: 3, ..Tuning::default() };
    let client = S3Client::new(&address, |name| variables.get(name).map(|value| (*value).to_owned()), tuning).unwrap();
    let one = S3Remote::new(client.clone(), "octo/one");
    for number in 1..=5 {
        one.put_bytes(Kind::Layer, &layer(number), vec![0; 100].into()).await.unwrap();
    }
    let two = S3Remote::new(client.clone(), "octo/two");
    for (remote, name, layers) in [(&one, "k#g1", &[1, 2][..]), (&one, "k#g2", &[2, 3]), (&two, "k#g1", &[4, 2])] {
        let bytes = encode(&snapshot(layers), name, &Keyring::default()).unwrap();
        remote.put_bytes(Kind::Snapshot, name, bytes.into()).await.unwrap();
    }
    // Not ours, though in our folder.
    put_plainly(server, &format!("/{bucket}/ci/v1/layer/notes.txt"), b"x");
    put_plainly(server, &format!("/{bucket}/ci/other"), b"x");
    let mut deleted = prune(&client, 1).await;
    assert_eq!(deleted, BTreeSet::from(["v1/snapshot/octo/one/k#g1".to_owned()]));
    deleted.extend(prune(&client, 99).await);
    let expected = [layer(1), layer(5)].map(|name| format!("v1/layer/{name}"));
    assert_eq!(
        deleted.iter().skip_while(|id| !id.starts_with("v1/layer")).take(2).cloned().collect::<BTreeSet<_>>(),
        BTreeSet::from(expected)
    );
    assert_eq!(deleted.len(), 3, "{deleted:?}");
    assert_eq!(prune(&client, 99).await, BTreeSet::new());
    for number in [2, 3, 4] {
        assert!(two.find(Kind::Layer, &[layer(number)]).await.unwrap().is_some(), "{number}");
    }
    let left: Vec<String> = client.list("").await.unwrap().into_iter().map(|object| object.key).collect();
    assert!(left.contains(&"other".to_owned()) && left.contains(&"v1/layer/notes.txt".to_owned()), "{left:?}");
}
