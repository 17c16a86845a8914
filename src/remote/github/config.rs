//! The configuration of the cache service from the environment of an action.

use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

use super::tuning::Tuning;
use crate::base::env_vars;
use crate::remote::RemoteError;

/// The `cache-mode:` of this job, from `ACTIONS_CACHE_MODE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// Entries may only be read.
    Read,
    /// Both. Also used if no mode or an unknown one is set: then the service decides.
    Write,
    /// Entries may only be written.
    WriteOnly,
    /// Neither.
    None,
}

impl CacheMode {
    /// Parses a mode, ignoring case and surrounding white space.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.trim().to_ascii_lowercase().as_str() {
            "read" => Self::Read,
            "write-only" => Self::WriteOnly,
            "none" => Self::None,
            _ => Self::Write,
        }
    }

    /// Its word in a workflow.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::WriteOnly => "write-only",
            Self::None => "none",
        }
    }

    /// Whether entries may be looked up and read.
    #[must_use]
    pub fn readable(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }

    /// Whether entries may be stored.
    #[must_use]
    pub fn writable(self) -> bool {
        matches!(self, Self::Write | Self::WriteOnly)
    }
}

/// The REST interface, for listings.
#[derive(Clone, Debug)]
pub struct RestConfig {
    /// Its base address, `https://api.github.com` on github.com.
    pub api_url: String,
    /// Owner and name of the repository, with a slash between them.
    pub repository: String,
    /// A token with the permission `actions: read`.
    pub token: SecretString,
}

impl RestConfig {
    /// Reads it from variables through `lookup`: `GITHUB_TOKEN` or `INPUT_TOKEN`, `GITHUB_REPOSITORY` and `GITHUB_API_URL`. An empty
    /// variable counts as not set. None without a token or a repository.
    pub(crate) fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let set = |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let token = set(env_vars::GITHUB_TOKEN).or_else(|| set(env_vars::INPUT_TOKEN))?;
        Some(Self {
            api_url: set(env_vars::GITHUB_API_URL).unwrap_or_else(|| "https://api.github.com".to_owned()),
            repository: set(env_vars::GITHUB_REPOSITORY)?,
            token: SecretString::from(token),
        })
    }
}

/// The configuration of the cache service.
#[derive(Clone, Debug)]
pub struct GithubConfig {
    /// The base address of the service. Its path does not matter.
    pub results_url: Url,
    /// The runtime token of the job.
    pub token: SecretString,
    /// The operations that the job may use.
    pub mode: CacheMode,
    /// The REST interface, when there is a token for it.
    pub rest: Option<RestConfig>,
    /// A file of CA certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Delays and sizes.
    pub tuning: Tuning,
}

impl GithubConfig {
    /// Reads the configuration from variables through `lookup`: `ACTIONS_RESULTS_URL`, `ACTIONS_RUNTIME_TOKEN`,
    /// `ACTIONS_CACHE_MODE`, `ACTIONS_CACHE_URL` and `ACTIONS_CACHE_SERVICE_V2` (to recognise an old service), `GITHUB_TOKEN` or
    /// `INPUT_TOKEN`, `GITHUB_REPOSITORY` and `GITHUB_API_URL` (for listings), `SSL_CERT_FILE` and `NIX_SSL_CERT_FILE`,
    /// `NIX_CACHE_TUNING` (for tests). An empty variable counts as not set.
    ///
    /// # Errors
    /// [`RemoteError::Unavailable`] when no cache service of version 2 is configured.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, RemoteError> {
        let set = |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        Ok(Self {
            results_url: results_url(&set)?,
            token: runtime_token(&set)?,
            mode: set(env_vars::ACTIONS_CACHE_MODE).map_or(CacheMode::Write, |mode| CacheMode::parse(&mode)),
            rest: RestConfig::from_env(&lookup),
            ca_file: set(env_vars::SSL_CERT_FILE).or_else(|| set(env_vars::NIX_SSL_CERT_FILE)).map(PathBuf::from),
            tuning: set(env_vars::NIX_CACHE_TUNING).map_or_else(Tuning::default, |text| Tuning::from_text(&text)),
        })
    }
}

fn results_url(set: &impl Fn(&str) -> Option<String>) -> Result<Url, RemoteError> {
    let refused =
        set(env_vars::ACTIONS_CACHE_SERVICE_V2).is_some_and(|v2| ["0", "false"].contains(&&*v2.to_ascii_lowercase()));
    let Some(text) = set(env_vars::ACTIONS_RESULTS_URL).filter(|_| !refused) else {
        let old = refused || set(env_vars::ACTIONS_CACHE_URL).is_some();
        return Err(RemoteError::Unavailable(if old {
            "This server supports only the old cache service (v1), so caching is off.".to_owned()
        } else {
            "ACTIONS_RESULTS_URL is not set, so GitHub's cache service cannot be used and caching is off. Only actions get \
            this variable, steps with `run:` do not; outside GitHub, use a directory as the remote."
                .to_owned()
        }));
    };
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| {
        RemoteError::Unavailable(
            "ACTIONS_RESULTS_URL is not an HTTP address, so GitHub's cache service cannot be used and caching is off. \
            The runner sets it; check what else in this job changes it."
                .to_owned(),
        )
    })
}

fn runtime_token(set: &impl Fn(&str) -> Option<String>) -> Result<SecretString, RemoteError> {
    let why = match set(env_vars::ACTIONS_RUNTIME_TOKEN) {
        Some(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => return Ok(SecretString::from(token)),
        Some(_) => "has characters that are not allowed in a token",
        None => "is not set",
    };
    Err(RemoteError::Unavailable(format!(
        "ACTIONS_RUNTIME_TOKEN {why}, so GitHub's cache service would refuse it and caching is off. The runner sets it \
         for actions, not for steps with `run:`."
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: (&str, &str) = ("ACTIONS_RESULTS_URL", "https://results.test/");
    const TOKEN: (&str, &str) = ("ACTIONS_RUNTIME_TOKEN", "eyJ.abc.def");

    fn from(variables: &[(&str, &str)]) -> Result<GithubConfig, RemoteError> {
        GithubConfig::from_env(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn unavailable(variables: &[(&str, &str)]) -> String {
        match from(variables) {
            Err(RemoteError::Unavailable(text)) => text,
            other => panic!("expected Unavailable, got {other:?}"),
        }
    }

    #[test]
    fn modes_are_those_of_the_official_client() {
        for (text, readable, writable) in [
            ("read", true, false),
            (" Write ", true, true),
            ("WRITE-ONLY", false, true),
            ("none", false, false),
            ("something new", true, true),
        ] {
            let mode = from(&[URL, TOKEN, ("ACTIONS_CACHE_MODE", text)]).unwrap().mode;
            assert_eq!((mode.readable(), mode.writable()), (readable, writable), "{text}");
        }
        assert_eq!(from(&[URL, TOKEN]).unwrap().mode, CacheMode::Write);
        assert_eq!(from(&[URL, TOKEN, ("ACTIONS_CACHE_MODE", "")]).unwrap().mode, CacheMode::Write);
    }

    #[test]
    fn an_old_service_is_named() {
        let old = "This server supports only the old cache service (v1), so caching is off.";
        assert_eq!(unavailable(&[("ACTIONS_CACHE_URL", "https://old.test/"), TOKEN]), old);
        assert_eq!(unavailable(&[URL, TOKEN, ("ACTIONS_CACHE_SERVICE_V2", "False")]), old);
        assert!(from(&[URL, TOKEN, ("ACTIONS_CACHE_SERVICE_V2", "True")]).is_ok());
    }

    #[test]
    fn what_is_missing_is_named_without_its_value() {
        assert!(unavailable(&[TOKEN]).starts_with("ACTIONS_RESULTS_URL is not set"));
        assert!(unavailable(&[("ACTIONS_RESULTS_URL", " "), TOKEN]).starts_with("ACTIONS_RESULTS_URL is not set"));
        assert!(unavailable(&[("ACTIONS_RESULTS_URL", "results"), TOKEN]).contains("is not an HTTP address"));
        assert!(unavailable(&[URL]).starts_with("ACTIONS_RUNTIME_TOKEN is not set"));
        assert!(!unavailable(&[URL, ("ACTIONS_RUNTIME_TOKEN", "abc def")]).contains("abc"));
    }

    #[test]
    fn listings_need_a_token_and_a_repository() {
        assert!(from(&[URL, TOKEN, ("GITHUB_TOKEN", "t")]).unwrap().rest.is_none());
        let rest = from(&[URL, TOKEN, ("INPUT_TOKEN", "t"), ("GITHUB_REPOSITORY", "a/b")]).unwrap().rest.unwrap();
        assert_eq!((&*rest.api_url, &*rest.repository), ("https://api.github.com", "a/b"));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let config = from(&[URL, TOKEN, ("GITHUB_TOKEN", "ghs_topsecret"), ("GITHUB_REPOSITORY", "a/b")]).unwrap();
        let printed = format!("{config:?}");
        assert!(!printed.contains("abc.def") && !printed.contains("topsecret"), "{printed}");
    }

    #[test]
    fn a_certificate_file_may_come_from_nix() {
        let nix = ("NIX_SSL_CERT_FILE", "/nix.crt");
        assert_eq!(from(&[URL, TOKEN, nix]).unwrap().ca_file, Some("/nix.crt".into()));
        assert_eq!(from(&[URL, TOKEN, nix, ("SSL_CERT_FILE", "/own.crt")]).unwrap().ca_file, Some("/own.crt".into()));
        assert_eq!(from(&[URL, TOKEN]).unwrap().ca_file, None);
    }
}
