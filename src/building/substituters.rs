//! The binary caches that Nix uses, and those that are left out because they keep failing. The latter are stored in a file for later
//! steps of the same job.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

use url::Url;

/// So many attempts in a row may fail because of one.
const STRIKES: u32 = 2;

/// The substituters of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Substituters {
    /// As Nix has them.
    configured: Vec<String>,
    /// Failures in a row, by [`shown`] name.
    strikes: BTreeMap<String, u32>,
}

impl Substituters {
    /// These, with what an earlier step wrote into `state`.
    #[must_use]
    pub(crate) fn new(configured: Vec<String>, state: Option<&Path>) -> Self {
        let read = |path: &Path| crate::base::bounds::read_json(path, crate::base::bounds::MAX_TEXT).ok();
        Self { configured, strikes: state.and_then(read).unwrap_or_default() }
    }

    /// Writes what was found out into `state`; that it cannot be written is told and no more.
    pub(crate) fn keep(&self, state: &Path) {
        let text = serde_json::to_string(&self.strikes).unwrap_or_default();
        let folder = state.parent().unwrap_or(Path::new("."));
        if let Err(error) = fs::create_dir_all(folder).and_then(|()| fs::write(state, text)) {
            tracing::debug!("{} cannot be written: {error}", state.display());
        }
    }

    /// Records that exactly these failed in an attempt. Returns those that are left out from now on.
    pub(crate) fn failed(&mut self, names: &BTreeSet<String>) -> Vec<String> {
        self.strikes.retain(|name, strikes| *strikes >= STRIKES || names.contains(name));
        let mut gone = Vec::new();
        for name in names {
            let strikes = self.strikes.entry(name.clone()).or_default();
            *strikes += 1;
            if *strikes == STRIKES {
                gone.push(name.clone());
            }
        }
        gone
    }

    /// Those that are left out.
    #[must_use]
    pub(crate) fn left_out(&self) -> Vec<String> {
        let known = |name: &String| self.configured.iter().any(|url| shown(url) == *name);
        let all = self.strikes.iter().filter(|(name, strikes)| **strikes >= STRIKES && known(name));
        all.map(|(name, _)| name.clone()).collect()
    }

    /// What `--option substituters` is to be; none while all are used.
    #[must_use]
    pub(crate) fn option(&self) -> Option<String> {
        let gone = self.left_out();
        if gone.is_empty() {
            return None;
        }
        let left: Vec<&str> =
            self.configured.iter().map(String::as_str).filter(|url| !gone.contains(&shown(url))).collect();
        Some(left.join(" "))
    }

    /// The substituter that a message is about. Where the message has only the name of a file, `asked` tells where it was
    /// asked for.
    #[must_use]
    pub(crate) fn named_in(&self, message: &str, asked: &VecDeque<String>) -> Option<String> {
        let words = || message.split(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | ';' | ','));
        let addresses = words().filter(|word| word.contains("://"));
        if let Some(name) = addresses.map(|address| address.trim_end_matches([':', '.'])).find_map(|url| self.at(url)) {
            return Some(name);
        }
        let file = words().find(|word| word.ends_with(".narinfo"))?;
        asked.iter().rev().filter(|url| url.ends_with(file)).find_map(|url| self.at(url))
    }

    /// The configured substituter that this address is in; or, for a file that only substituters have, its folder.
    fn at(&self, address: &str) -> Option<String> {
        let address = shown(address);
        let mut names: Vec<String> = self.configured.iter().map(|url| shown(url)).collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        let inside = |name: &String| {
            address == *name || address.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        if let Some(name) = names.into_iter().find(inside) {
            return Some(name);
        }
        let (folder, file) = address.rsplit_once('/')?;
        let theirs =
            file == "nix-cache-info" || Path::new(file).extension().is_some_and(|extension| extension == "narinfo");
        theirs.then(|| folder.to_owned())
    }
}

/// An address as it may be shown and kept: without name, password and parameters.
#[must_use]
pub(crate) fn shown(address: &str) -> String {
    let Ok(mut url) = Url::parse(address) else { return address.trim_end_matches('/').to_owned() };
    url.set_query(None);
    url.set_fragment(None);
    // A kind of address that has no such parts refuses.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.as_str().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn two() -> Substituters {
        Substituters::new(vec!["https://me:secret@a.example/x?priority=3".into(), "s3://b".into()], None)
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn one_that_keeps_failing_is_left_out_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/state.json");
        let mut all = two();
        let a = "https://a.example/x";
        assert_eq!(all.failed(&set(&[a])), [""; 0]);
        assert_eq!(all.failed(&set(&[])), [""; 0], "an attempt in between that went well");
        assert_eq!(all.failed(&set(&[a])), [""; 0]);
        assert_eq!(all.option(), None);
        assert_eq!(all.failed(&set(&[a])), [a]);
        all.failed(&set(&[]));
        assert_eq!((all.left_out(), all.option().unwrap()), (vec![a.to_owned()], "s3://b".to_owned()));
        all.keep(&state);
        assert!(!fs::read_to_string(&state).unwrap().contains("secret"));
        let again = Substituters::new(two().configured, Some(&state));
        assert_eq!(again, all);
        let others = Substituters::new(vec!["https://c".into()], Some(&state));
        assert_eq!(others.option(), None, "nothing is left out of a configuration without it");
    }

    #[test]
    fn the_one_that_a_message_is_about() {
        let all = two();
        let asked = VecDeque::from(["https://a.example/x/abc.narinfo".to_owned()]);
        let named = |text: &str| all.named_in(text, &asked);
        let a = Some("https://a.example/x".to_owned());
        assert_eq!(named("unable to download 'https://a.example/x/q.narinfo': HTTP error 503"), a);
        assert_eq!(named("NAR info file 'abc.narinfo' is corrupt"), a);
        assert_eq!(named("disabling binary cache 'https://a.example/x' for 60 seconds"), a);
        assert_eq!(named("unable to download 'https://a.example/xyz'"), None);
        assert_eq!(named("unable to download 'https://c/d/nix-cache-info'"), Some("https://c/d".into()));
        assert_eq!(named("NAR info file 'other.narinfo' is corrupt"), None);
    }

    proptest! {
        #[test]
        fn nobody_breaks_it(text in any::<String>(), address in any::<String>()) {
            let _ = two().named_in(&format!("{text} '{address}' {address}://{text}.narinfo"), &VecDeque::from([address.clone()]));
            let with_password = format!("https://u:sekretsekret@{address}");
            let (known, name) = (url::Url::parse(&with_password).is_ok(), shown(&with_password));
            prop_assert!(!known || !name.contains("sekretsekret"), "{}", name);
            let _ = shown(&address);
        }
    }
}
