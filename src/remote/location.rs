//! `github`, `dir:PATH` or `s3://BUCKET/PREFIX?…`: the name of a remote, as users write it.

use std::fmt;
use std::path::PathBuf;

use super::s3::S3Address;

/// Where a remote is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Github,
    Directory(PathBuf),
    S3(S3Address),
}

/// Most remotes that one job uses.
const MOST: usize = 4;
/// What is behind the name of a remote that is not the first one.
const READ_ONLY: &str = "read-only";

impl Location {
    /// Parses the names of remotes, one a line: the first one is saved to, and behind each of the others is `read-only`.
    ///
    /// # Errors
    /// As [`Location::parse`].
    pub(crate) fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let mut all = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let name = line.strip_suffix(READ_ONLY).filter(|name| name.ends_with([' ', '\t'])).map(str::trim_end);
            let location = Self::parse(name.unwrap_or(line))?;
            match (all.is_empty(), name) {
                (true, Some(name)) => {
                    return Err(format!(
                        "The remote {} is the first one, which is saved to, so it cannot be `{READ_ONLY}`. Put another one in front of it.",
                        shown(name)
                    ));
                }
                (false, None) => {
                    return Err(format!(
                        "The remote {} is not the first one, and only the first one is saved to. Write `{READ_ONLY}` behind it.",
                        shown(line)
                    ));
                }
                _ if all.contains(&location) => {
                    return Err(format!("The remote {} is given twice. Remove one.", shown(name.unwrap_or(line))));
                }
                _ => all.push(location),
            }
        }
        match all.len() {
            0 => Self::parse(text.trim()).map(|location| vec![location]),
            1..=MOST => Ok(all),
            count => Err(format!("{count} remotes are given, but a job uses at most {MOST}. Remove some.")),
        }
    }

    /// Parses the names of remotes and returns the first one, which is saved to.
    ///
    /// # Errors
    /// As [`Location::parse_all`].
    pub(crate) fn main(text: &str) -> Result<Self, String> {
        Self::parse_all(text).map(|mut all| all.swap_remove(0))
    }

    /// Parses the name of a remote.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to write instead. It contains nothing that could be a secret.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("The remote {} cannot be used: {why}.", shown(text));
        match text.split_once(':') {
            None if text == "github" => Ok(Self::Github),
            Some(("dir", path)) => directory(path).map(Self::Directory).map_err(|why| wrong(&why)),
            Some(("s3", rest)) => match rest.strip_prefix("//") {
                Some(rest) => S3Address::parse(rest).map(Self::S3).map_err(|why| wrong(&why)),
                None => Err(wrong("the two slashes are missing. Write s3://BUCKET/PREFIX")),
            },
            Some(("file", path)) => {
                let path = path.trim_start_matches("//");
                Err(wrong(&format!("a folder is written with `dir:`, as in dir:{}", shown(path).trim_matches('"'))))
            }
            Some((scheme @ ("http" | "https" | "gs" | "r2" | "b2" | "minio" | "az" | "azblob"), _)) => {
                Err(wrong(&format!(
                    "{scheme} is not a kind of remote. Write an object store as s3://BUCKET/PREFIX?endpoint=https://…"
                )))
            }
            _ => Err(wrong("it is not a kind of remote. Use `github`, `dir:PATH` or `s3://BUCKET/PREFIX`")),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Github => f.write_str("github"),
            Self::Directory(path) => write!(f, "dir:{}", path.display()),
            Self::S3(address) => write!(f, "{address}"),
        }
    }
}

fn directory(path: &str) -> Result<PathBuf, String> {
    if path.trim().is_empty() {
        return Err("the folder is missing. Write dir:/path/of/the/folder".to_owned());
    }
    if path.starts_with('~') {
        return Err("`~` is not expanded. Write the whole path".to_owned());
    }
    if let Some(bad) = path.chars().find(|c| c.is_control()) {
        return Err(format!("{bad:?} cannot be in the path of a folder"));
    }
    Ok(PathBuf::from(path))
}

/// The part of a name without parameters, and without anything before an `@`, where some write credentials.
pub(crate) fn shown(text: &str) -> String {
    let place = text.split('?').next().unwrap_or_default();
    let (scheme, rest) = place.split_once("//").map_or(("", place), |(scheme, rest)| (scheme, rest));
    let clear = match rest.rsplit_once('@') {
        Some((_, host)) if scheme.is_empty() => format!("…@{host}"),
        Some((_, host)) => format!("{scheme}//…@{host}"),
        None => place.to_owned(),
    };
    let short: String = clear.chars().take(100).collect();
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_remote_is_told_by_its_name() {
        assert_eq!(Location::parse("github"), Ok(Location::Github));
        assert_eq!(Location::parse("dir:/mnt/a b"), Ok(Location::Directory("/mnt/a b".into())));
        assert_eq!(Location::parse("dir:../cache"), Ok(Location::Directory("../cache".into())));
        assert!(matches!(Location::parse("s3://my-bucket/ci?region=eu-west-1"), Ok(Location::S3(_))));
    }

    #[test]
    fn several_remotes_stand_on_lines_and_only_the_first_is_written() {
        let all =
            Location::parse_all("github\n  s3://bucket/ci?region=eu-west-1  read-only\n\ndir:/mnt/a b read-only\n")
                .unwrap();
        assert_eq!((&all[0], &all[2], all.len()), (&Location::Github, &Location::Directory("/mnt/a b".into()), 3));
        assert_eq!(Location::parse_all("github"), Ok(vec![Location::Github]));
        for (text, says) in [
            ("github read-only", "cannot be `read-only`"),
            ("github\ndir:/a", "Write `read-only` behind it"),
            ("dir:/a\ndir:/a read-only", "given twice"),
            ("github\nftp://x read-only", "not a kind of remote"),
            ("github\ndir:/a read-only\ndir:/b read-only\ndir:/c read-only\ndir:/d read-only", "at most 4"),
            ("", "Use `github`"),
            ("\n", "Use `github`"),
            ("github\ns3://AKIA:hunter2@bucket read-only", "contains credentials"),
        ] {
            let error = Location::parse_all(text).unwrap_err();
            assert!(error.contains(says) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_remedy_and_without_secrets() {
        for (text, says) in [
            ("", "Use `github`, `dir:PATH` or `s3://BUCKET/PREFIX`"),
            ("Github", "Use `github`"),
            ("github:", "Use `github`"),
            ("S3://bucket", "Use `github`"),
            (" github", "Use `github`"),
            ("/mnt/cache", "dir:PATH"),
            ("dir:", "The remote \"dir:\" cannot be used: the folder is missing"),
            ("dir: ", "the folder is missing"),
            ("dir:~/cache", "Write the whole path"),
            ("dir:/a\nb", "cannot be in the path"),
            ("file:///mnt/cache", "dir:/mnt/cache"),
            ("https://bucket.example.com/x", "s3://BUCKET/PREFIX?endpoint=https://…"),
            ("gs://bucket", "s3://BUCKET/PREFIX?endpoint=https://…"),
            ("s3:bucket", "the two slashes are missing"),
            ("s3://", "the bucket is missing"),
            ("s3://AKIA:hunter2@bucket/x", "\"s3://…@bucket/x\" cannot be used: it contains credentials"),
            ("s3://bucket/x?secret=hunter2", "\"s3://bucket/x\" cannot be used"),
            ("https://u:hunter2@host/x", "s3://BUCKET/PREFIX"),
            ("u:hunter2@host", "Use `github`"),
        ] {
            let error = Location::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
