//! A remote as plain data: what another process needs to read from the same one. It can contain a token, so it goes through a pipe
//! only, and is never printed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::github::{CacheMode, GithubConfig, GithubRemote, Tuning};
use super::{DirectoryRemote, Remote, RemoteError};

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
}

/// Omits addresses and tokens.
impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory { .. } => "Directory",
            Self::Github { .. } => "Github",
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
                Ok(Arc::new(GithubRemote::new(config)?))
            }
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
}
