//! `file:///DIR`, `s3://BUCKET/PREFIX?…`, `https://HOST/PATH`: the name of a sink, as users write it, and what it stands for.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

use super::Native;
use super::tool::Tool;
use crate::remote::github::Tuning;
use crate::remote::objects::{BucketObjects, DirectoryObjects, HttpObjects, Login, http_address};
use crate::remote::s3::{S3Address, S3Client};
use crate::remote::shown;

/// Where to push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    Directory(PathBuf),
    S3(S3Address),
    Http(Url),
    /// A service with a tool of its own.
    Tool(Tool),
}

/// A sink that is ready, or why it cannot be used.
pub(crate) enum OpenSink {
    Native(Native),
    Tool(Tool),
    /// A sentence.
    Unusable(String),
}

const TAKES: &str = "`file:///FOLDER`, `s3://BUCKET/PREFIX?endpoint=…&region=…`, `https://HOST/PATH`, \
    `cachix:NAME`, `attic:SERVER:CACHE` or `niks3:URL`";

impl Sink {
    /// Parses the name of a sink.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to write instead. It contains nothing that could be a secret.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("The sink {} cannot be used: {why}.", shown(text));
        if let Some((scheme, rest)) = text.split_once(':')
            && let Some(tool) = Tool::parse(scheme, rest)
        {
            return tool.map(Self::Tool).map_err(|why| wrong(&why));
        }
        match text.split_once(':') {
            Some(("file", rest)) => folder(rest).map(Self::Directory).map_err(|why| wrong(&why)),
            Some(("dir", path)) => Err(wrong(&format!("a folder is written as file://{path}, with its whole path"))),
            Some(("s3", rest)) => match rest.strip_prefix("//") {
                Some(rest) => S3Address::parse(rest).map(Self::S3).map_err(|why| wrong(&why)),
                None => Err(wrong("the two slashes are missing. Write s3://BUCKET/PREFIX")),
            },
            Some(("http" | "https", _)) => http_address(text).map(Self::Http).map_err(|why| wrong(&why)),
            _ => Err(wrong(&format!("it is not a kind of sink. Use {TAKES}"))),
        }
    }

    /// Opens it. Keys and logins come from `variable`, which reads the environment. No request is sent.
    fn open(&self, variable: &impl Fn(&str) -> Option<String>) -> Result<OpenSink, String> {
        let native: Native = match self {
            Self::Tool(tool) => return Ok(OpenSink::Tool(tool.clone())),
            Self::Directory(path) => Arc::new(DirectoryObjects::new(path)),
            Self::S3(address) => {
                let client = S3Client::new(address, variable, Tuning::from_env());
                Arc::new(BucketObjects(client.map_err(|error| error.to_string())?))
            }
            Self::Http(base) => {
                let login = Login::from_env(variable)?;
                let objects = HttpObjects::new(base.clone(), login, Tuning::from_env());
                Arc::new(objects.map_err(|error| error.to_string())?)
            }
        };
        Ok(OpenSink::Native(native))
    }

    /// Opens each of `sinks`. Returns them with their names.
    pub(crate) fn open_all(sinks: &[Self], variable: impl Fn(&str) -> Option<String>) -> Vec<(String, OpenSink)> {
        let hosts = sinks.iter().filter(|sink| matches!(sink, Self::Http(_))).count();
        let has_login = || !matches!(Login::from_env(&variable), Ok(None));
        let open = |sink: &Self| match sink {
            // One login must not reach the host of another.
            Self::Http(_) if hosts > 1 && has_login() => {
                Err("there are several sinks of this kind and only one login. Push to \
                 each in a step of its own, with the login in the `env` of the step."
                    .to_owned())
            }
            _ => sink.open(&variable),
        };
        sinks.iter().map(|sink| (sink.to_string(), open(sink).unwrap_or_else(OpenSink::Unusable))).collect()
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "file://{}", path.display()),
            Self::S3(address) => address.fmt(f),
            Self::Tool(tool) => tool.fmt(f),
            Self::Http(url) => f.write_str(url.as_str().trim_end_matches('/')),
        }
    }
}

fn folder(rest: &str) -> Result<PathBuf, String> {
    let path = rest.strip_prefix("//").ok_or("the slashes are missing. Write file:///srv/cache")?;
    if path.contains(['?', '#']) {
        return Err(
            "parameters of Nix's are not known here, such as `secret-key`. Pass the key as `signing-key`".to_owned()
        );
    }
    if !path.starts_with('/') {
        return Err("its path is not absolute. Write file:///srv/cache".to_owned());
    }
    let url = Url::parse(&format!("file://{path}")).map_err(|error| format!("it is not a URL ({error})"))?;
    url.to_file_path().map_err(|()| "its path cannot be read. Write file:///srv/cache".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_sink_is_told_by_its_name() {
        assert_eq!(Sink::parse("file:///srv/a%20b"), Ok(Sink::Directory("/srv/a b".into())));
        for text in [
            "cachix:my-cache",
            "attic:my-server:my-cache",
            "niks3:https://niks3.example.org",
            "s3://my-bucket/nix?region=eu-west-1",
            "https://cache.example.org/a/b",
            "http://127.0.0.1:80",
            "http://10.0.0.1/x",
        ] {
            let sink = Sink::parse(text).unwrap();
            assert_eq!(sink.to_string(), text.trim_end_matches(":80"), "{sink:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_remedy_and_without_secrets() {
        for (text, says) in [
            ("", "Use `file:///FOLDER`"),
            ("github", "it is not a kind of sink"),
            ("/srv/cache", "it is not a kind of sink"),
            ("dir:/srv/cache", "file:///srv/cache"),
            ("file:/srv/cache", "the slashes are missing"),
            ("file://srv/cache", "not absolute"),
            ("file:///srv/cache?secret-key=/hunter2", "Pass the key as `signing-key`"),
            ("s3:bucket", "the two slashes are missing"),
            ("s3://u:hunter2@bucket/x", "it contains credentials"),
            ("s3://bucket/x?secret-key=hunter2", "AWS_SECRET_ACCESS_KEY"),
            ("https://u:hunter2@host/x", "NIX_CACHE_PUSH_LOGIN"),
            ("https://host/x?token=hunter2", "query or fragment"),
            ("http://cache.example.org", "Use https"),
            ("ssh://host", "it is not a kind of sink"),
            ("cachix:", "cachix:my-cache"),
            ("cachix:--help", "cachix:my-cache"),
            ("attic:cache", "attic:my-server:my-cache"),
            ("attic:a:b:c", "attic:my-server:my-cache"),
            ("niks3:cache.example.org", "it is not a URL"),
            ("niks3:https://u:hunter2@host", "it contains credentials"),
        ] {
            let error = Sink::parse(text).unwrap_err();
            assert!(error.contains(says) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn one_login_is_not_sent_to_two_hosts() {
        let sinks = ["https://one.example.org", "https://two.example.org", "file:///srv"]
            .map(|text| Sink::parse(text).unwrap());
        let unusable = |sinks: &[Sink], token: Option<&str>| {
            let variable = |name: &str| token.filter(|_| name == "NIX_CACHE_PUSH_TOKEN").map(str::to_owned);
            let open = Sink::open_all(sinks, variable);
            open.iter().filter(|(_, sink)| matches!(sink, OpenSink::Unusable(_))).count()
        };
        assert_eq!(unusable(&sinks, None), 0);
        assert_eq!(unusable(&sinks, Some("hunter2")), 2);
        assert_eq!(unusable(&sinks[1..], Some("hunter2")), 0);
        assert_eq!(unusable(&sinks[1..], Some("hunter2\n\u{1}")), 1, "it is not a header");
    }
}
