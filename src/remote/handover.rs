//! A remote as plain data: what another process needs to read from the same one. It can contain a token, so it goes through a pipe
//! only, and is never printed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::fallbacks::{Fallback, Fallbacks, Purpose, Unopened};
use super::github::{CacheMode, GithubConfig, GithubRemote, Tuning};
use super::s3::{S3Address, S3Client, S3Remote};
use super::{DirectoryRemote, Remote, RemoteError};
use crate::base::env_vars::PROXIES;

/// Everything that [`Handover::open`] needs.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handover {
    /// A directory.
    Directory {
        /// Its absolute path.
        path: PathBuf,
    },
    /// GitHub's cache service, for reading.
    Github {
        /// Its base address.
        results_url: String,
        /// The runtime token of the job.
        token: String,
        /// CA certificates to trust instead of the system's.
        ca_file: Option<PathBuf>,
        /// Delays, as in `NIX_CACHE_TUNING`.
        tuning: String,
    },
    /// A bucket, for reading.
    S3 {
        /// What follows `s3://`, with it.
        address: String,
        /// Keys, and what the address leaves open, by the names of their variables.
        variables: BTreeMap<String, String>,
        /// Whose entries are read.
        repository: String,
        /// See `Github`.
        ca_file: Option<PathBuf>,
        /// See `Github`.
        tuning: String,
    },
    /// Several remotes in their order, with whether they have layers of their own.
    Several {
        /// The main one first.
        remotes: Vec<(Handover, bool)>,
    },
    /// A remote that could not be opened, among several.
    Unopened {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
}

/// Returns whether requests go through a proxy. Its address, which can contain a password, would have to be in the environment of
/// another process.
pub(super) fn is_proxied() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    PROXIES.into_iter().any(|name| is_set(name) || is_set(&name.to_ascii_lowercase()))
}

/// Omits addresses and tokens.
impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory { .. } => "Directory",
            Self::Github { .. } => "Github",
            Self::S3 { .. } => "S3",
            Self::Several { .. } => "Several",
            Self::Unopened { .. } => "Unopened",
        })
    }
}

impl Handover {
    /// Opens the remote.
    ///
    /// # Errors
    /// When it cannot be opened from this process.
    pub fn open(self) -> Result<Arc<dyn Remote>, RemoteError> {
        match self {
            Self::Directory { path } => Ok(Arc::new(DirectoryRemote::named(&path).map_err(RemoteError::Failed)?)),
            Self::Github { results_url, token, ca_file, tuning } => {
                let results_url = results_url
                    .parse()
                    .map_err(|_| RemoteError::Failed("The address of the cache service is not valid.".to_owned()))?;
                let config = GithubConfig {
                    results_url,
                    token: SecretString::from(token),
                    mode: CacheMode::Read,
                    rest: None,
                    ca_file,
                    tuning: Tuning::from_text(&tuning),
                };
                let remote = GithubRemote::new(config)?;
                remote.keep_asking();
                Ok(Arc::new(remote))
            }
            Self::S3 { address, variables, repository, ca_file, tuning } => {
                let address = S3Address::parse(address.strip_prefix("s3://").unwrap_or(&address))
                    .map_err(|why| RemoteError::Failed(format!("The address of the bucket is not valid: {why}.")))?;
                let variable = |name: &str| variables.get(name).cloned();
                let client = S3Client::trusting(&address, variable, Tuning::from_text(&tuning), ca_file)?;
                let remote = S3Remote::new(client, &repository);
                remote.keep_asking();
                Ok(Arc::new(remote))
            }
            Self::Several { remotes } => {
                let open = |(remote, has_layers): (Self, bool)| Ok(Fallback { remote: remote.open()?, has_layers });
                let mut remotes = remotes.into_iter().map(open).collect::<Result<Vec<_>, RemoteError>>()?;
                if remotes.is_empty() {
                    return Err(RemoteError::Failed("There is no remote among those that are handed over.".to_owned()));
                }
                let main = remotes.remove(0).remote;
                Ok(Arc::new(Fallbacks::new(main, remotes, Purpose::Restore)))
            }
            Self::Unopened { name, why } => Ok(Arc::new(Unopened { name, why })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_handed_over_but_not_printed() {
        let handover = Handover::Github {
            results_url: "https://results.test/".into(),
            token: "topsecret".into(),
            ca_file: None,
            tuning: String::new(),
        };
        assert!(!format!("{handover:?}").contains("secret"));
        let text = serde_json::to_string(&handover).unwrap();
        let opened = serde_json::from_str::<Handover>(&text).unwrap().open().unwrap();
        assert_eq!(opened.describe(), "GitHub's cache service at results.test");
        let Some(Handover::Github { token, .. }) = opened.handover() else { panic!("it can be handed over again") };
        assert_eq!(token, "topsecret");
    }

    #[test]
    fn several_remotes_are_handed_over_in_their_order_with_those_that_do_not_work() {
        let keys = [
            ("AWS_ACCESS_KEY_ID", "AKIA"),
            ("AWS_SECRET_ACCESS_KEY", "topsecret"),
            ("AWS_SESSION_TOKEN", "sessionsecret"),
        ];
        let keys = keys.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let bucket = Handover::S3 {
            address: "s3://bucket/ci?region=eu-west-1".into(),
            variables: keys.into(),
            repository: "octo/nix".into(),
            ca_file: None,
            tuning: String::new(),
        };
        let broken = Handover::Unopened { name: "github".into(), why: "It is off.".into() };
        let all = Handover::Several { remotes: vec![(broken, true), (bucket, false)] };
        assert!(!format!("{all:?}").contains("secret"));
        let text = serde_json::to_string(&all).unwrap();
        let opened = serde_json::from_str::<Handover>(&text).unwrap().open().unwrap();
        assert!(opened.describe().starts_with("github, then the bucket bucket at "), "{}", opened.describe());
        // What it hands over again is the same.
        assert_eq!(serde_json::to_string(&opened.handover().unwrap()).unwrap(), text);
        Handover::Several { remotes: Vec::new() }.open().map(|_| ()).unwrap_err();
    }
}
