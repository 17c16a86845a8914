//! Paths in JSON: as text if they are UTF-8, otherwise as bytes.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Raw {
    Text(PathBuf),
    Bytes(Vec<u8>),
}

impl Raw {
    fn new(path: &Path) -> Self {
        match path.to_str() {
            Some(_) => Self::Text(path.to_owned()),
            None => Self::Bytes(path.as_os_str().as_bytes().to_vec()),
        }
    }

    fn path(self) -> PathBuf {
        match self {
            Self::Text(path) => path,
            Self::Bytes(bytes) => OsString::from_vec(bytes).into(),
        }
    }
}

pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    Raw::new(path).serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Raw::deserialize(deserializer).map(Raw::path)
}

/// For an optional path.
pub(super) mod optional {
    use super::{Deserialize, Deserializer, PathBuf, Raw, Serialize, Serializer};

    #[allow(clippy::ref_option, reason = "serde asks for it")]
    pub(in crate::attach) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_deref().map(Raw::new).serialize(serializer)
    }

    pub(in crate::attach) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<Raw>::deserialize(deserializer)?.map(Raw::path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Paths {
        #[serde(with = "super")]
        one: PathBuf,
        #[serde(with = "super::optional", default)]
        other: Option<PathBuf>,
    }

    #[test]
    fn paths_come_back() {
        let odd = PathBuf::from(OsString::from_vec(b"/q\xff".to_vec()));
        for paths in [
            Paths { one: "/a".into(), other: None },
            Paths { one: odd.clone(), other: Some(odd) },
            Paths { one: "/a".into(), other: Some("/b c".into()) },
        ] {
            let text = serde_json::to_string(&paths).unwrap();
            assert_eq!(serde_json::from_str::<Paths>(&text).unwrap(), paths, "{text}");
        }
        assert_eq!(serde_json::from_str::<Paths>(r#"{"one":"/a"}"#).unwrap().one, Path::new("/a"));
    }
}
