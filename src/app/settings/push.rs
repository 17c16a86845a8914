//! The settings of a push.

use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::values::duration;
use crate::app::Failure;
use crate::push::Sink;
use crate::store::{STORE_DIR, StorePath};

/// Largest number of links that are followed to a store path.
const MAX_LINKS: usize = 20;

/// Where to push, and for how long.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Push")]
pub(crate) struct PushArgs {
    /// Binary cache to push to: `file:///FOLDER`, `s3://BUCKET/PREFIX?endpoint=…&region=…` with keys from the variables
    /// `AWS_*`, `https://HOST/PATH`, which has to accept `PUT`, with a login from `NIX_CACHE_PUSH_TOKEN` or
    /// `NIX_CACHE_PUSH_LOGIN`, or with the tool of that name on PATH `cachix:NAME`, `attic:SERVER:CACHE` or `niks3:URL`
    #[arg(long, value_name = "SINK")]
    pub to: Vec<String>,
    /// Longest time that a push may take; what was pushed by then stays [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub push_timeout: Option<Duration>,
}

/// What to push, as an input. On the command line, it is an argument without a name.
#[derive(Clone, Debug, Args)]
pub(crate) struct StorePathsArg {
    /// Store paths to push with everything that they refer to, or links to them, such as `result` [default: what was built since
    /// the last restore]
    #[arg(long, value_name = "STORE-PATH")]
    pub store_paths: Vec<String>,
}

/// Where the main action pushes to.
#[derive(Clone, Debug, Args)]
pub(crate) struct PushToArgs {
    /// Binary caches that get what this job built, when it ends and in the main action also while it runs: see the input `to` of
    /// `push/` for their kinds
    #[arg(long, value_name = "SINK")]
    pub push_to: Vec<String>,
}

/// Parses the names of sinks.
pub(crate) fn sinks(names: &[String]) -> Result<Vec<Sink>, Failure> {
    let mut sinks: Vec<Sink> = Vec::new();
    for name in names {
        let sink = Sink::parse(name).map_err(Failure::usage)?;
        if !sinks.contains(&sink) {
            sinks.push(sink);
        }
    }
    Ok(sinks)
}

/// Parses a store path, or follows links to one, relative to `folder`.
pub(crate) fn store_path(text: &str, folder: &Path) -> Result<StorePath, Failure> {
    let mut path = folder.join(text);
    for _ in 0..MAX_LINKS {
        if let Ok(inside) = path.strip_prefix(STORE_DIR) {
            let name = inside.iter().next().and_then(|name| name.to_str());
            return name.unwrap_or_default().parse().map_err(Failure::usage);
        }
        let Ok(target) = std::fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    Err(Failure::usage(format!(
        "{text:?} is neither a store path nor a link to one. Write a path below {STORE_DIR}, or a link such as `result`."
    )))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_store_path_is_found_behind_links() {
        let folder = tempfile::tempdir().unwrap();
        let base = format!("{}-hello", "0".repeat(32));
        let full = format!("{STORE_DIR}/{base}");
        symlink(&full, folder.path().join("result")).unwrap();
        symlink("result", folder.path().join("again")).unwrap();
        symlink("loop", folder.path().join("loop")).unwrap();
        for text in [&*full, &format!("{full}/bin/hello"), "result", "again", "./again"] {
            assert_eq!(store_path(text, folder.path()).unwrap().as_str(), base, "{text}");
        }
        for text in ["", "absent", "loop", "/nix/store", "/nix/store/hello", "/nix/storex/a", "/etc"] {
            assert!(store_path(text, folder.path()).is_err(), "{text}");
        }
    }

    #[test]
    fn each_sink_counts_once() {
        let names = ["file:///a", "file:///b", "file:///a"].map(str::to_owned);
        assert_eq!(sinks(&names).unwrap().len(), 2);
        assert_eq!(sinks(&["file://a".to_owned()]).unwrap_err().code, 2);
    }
}
