//! All entries in a bucket below the prefix, of all repositories, for pruning: layers are shared, so what one repository names another
//! one must not delete.

use std::sync::Arc;

use async_trait::async_trait;

use super::directory::unescape;
use super::{S3Client, S3Remote};
use crate::remote::{Kind, ListError, Listed, Remote, RemoteError, Shelf};

/// The start of all our keys.
const VERSION: &str = "v1/";

/// The entries of all repositories.
pub(crate) struct S3Shelf {
    client: S3Client,
}

impl S3Shelf {
    pub(crate) fn new(client: S3Client) -> Self {
        Self { client }
    }
}

/// The kind, the repository (empty for a layer) and the name in a key; None for a key that no version of this program would write.
fn parts(key: &str) -> Option<(Kind, String, String)> {
    let (word, rest) = key.strip_prefix(VERSION)?.split_once('/')?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word)?;
    if kind == Kind::Layer {
        return Some((kind, String::new(), unescape(rest).filter(|name| !name.is_empty())?));
    }
    let (owner, rest) = rest.split_once('/')?;
    let (repository, name) = rest.split_once('/')?;
    let is_whole = !owner.is_empty() && !repository.is_empty() && !name.is_empty() && !name.contains('/');
    let name = unescape(name).filter(|_| is_whole)?;
    Some((kind, format!("{owner}/{repository}"), name))
}

fn failed(error: &RemoteError) -> ListError {
    let text = error.to_string();
    match error {
        RemoteError::Denied(_) => ListError::Permission(text),
        RemoteError::Throttled(_) => ListError::Limited(text),
        _ => ListError::Failed(text),
    }
}

#[async_trait]
impl Shelf for S3Shelf {
    fn describe(&self) -> String {
        self.client.place().to_owned()
    }

    async fn list(&self) -> Result<Vec<Listed>, ListError> {
        let objects = self.client.list(VERSION).await.map_err(|error| failed(&error))?;
        let listed = objects.into_iter().map(|object| {
            let (kind, scope, name) = match parts(&object.key) {
                Some((kind, scope, name)) => (Some(kind), scope, name),
                None => (None, String::new(), object.key.clone()),
            };
            let created = u64::try_from(object.modified / 1000).unwrap_or(0);
            Listed { id: object.key, kind, name, scope, size: object.size, created, accessed: None }
        });
        Ok(listed.collect())
    }

    async fn delete(&self, entry: &Listed) -> Result<(), ListError> {
        if entry.kind.is_none() {
            return Ok(());
        }
        self.client.delete(&entry.id).await.map_err(|error| failed(&error))
    }

    fn remote_of(&self, scope: &str) -> Option<Arc<dyn Remote>> {
        Some(Arc::new(S3Remote::new(self.client.clone(), scope)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_those_of_others() {
        assert_eq!(parts("v1/layer/abc"), Some((Kind::Layer, String::new(), "abc".into())));
        assert_eq!(parts("v1/snapshot/o/r/k%2Fx#g1"), Some((Kind::Snapshot, "o/r".into(), "k/x#g1".into())));
        for key in [
            "v1/layer/",
            "v1/layer/a/b%2",
            "v1/snapshot/o/r/",
            "v1/snapshot/o/r",
            "v1/snapshot/o/r/a/b",
            "v2/layer/a",
            "v1/probe/if-none-match",
            "x",
        ] {
            assert_eq!(parts(key), None, "{key}");
        }
    }
}
