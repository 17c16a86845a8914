//! Objects of a bucket.

use async_trait::async_trait;

use super::{ObjectError, Objects};
use crate::remote::RemoteError;
use crate::remote::blob::source::Source;
use crate::remote::s3::S3Client;

pub(crate) struct BucketObjects(pub S3Client);

#[async_trait]
impl Objects for BucketObjects {
    fn place(&self) -> &str {
        self.0.place()
    }

    async fn read(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, ObjectError> {
        self.0.get(name, most).await.map_err(meaning)
    }

    async fn write(&self, name: &str, source: &Source) -> Result<(), ObjectError> {
        self.0.put(name, source).await.map_err(meaning)
    }
}

fn meaning(error: RemoteError) -> ObjectError {
    match error {
        RemoteError::Denied(why)
        | RemoteError::Unavailable(why)
        | RemoteError::Refused(why)
        | RemoteError::Quota(why) => ObjectError::Refused(why),
        other => ObjectError::Failed(other.to_string()),
    }
}
