//! Globs, with the same syntax everywhere: `*` and `?` match within one name, `**` matches across folders, and `[a-z]` and
//! `{a,b}` are supported.

use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

/// Why a text is not a usable glob. The caller adds where the text comes from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a glob: {0}")]
pub(crate) struct GlobError(String);

/// A set of globs. Each has an origin `T` for error messages, which the set does not keep.
pub(crate) fn set<T>(globs: impl IntoIterator<Item = (T, String)>) -> Result<GlobSet, (Option<T>, GlobError)> {
    let mut set = GlobSetBuilder::new();
    let mut last = None;
    for (origin, glob) in globs {
        match parse(&glob) {
            Ok(glob) => set.add(glob),
            Err(error) => return Err((Some(origin), error)),
        };
        last = Some(origin);
    }
    // Each one is a valid glob, so the set as a whole is too large.
    set.build().map_err(|error| (last, GlobError(error.to_string())))
}

/// One glob.
pub(crate) fn matcher(glob: &str) -> Result<GlobMatcher, GlobError> {
    parse(glob).map(|glob| glob.compile_matcher())
}

fn parse(glob: &str) -> Result<Glob, GlobError> {
    GlobBuilder::new(glob).literal_separator(true).build().map_err(|error| GlobError(error.kind().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_in_its_folder_and_two_do_not() {
        let globs = set([((), "a/*.nix".to_owned()), ((), "b/**".to_owned()), ((), "c/{x,y}?".to_owned())]).unwrap();
        for (path, matching) in
            [("a/b.nix", vec![0]), ("a/b/c.nix", vec![]), ("b/c/d", vec![1]), ("c/xz", vec![2]), ("c/x/", vec![])]
        {
            assert_eq!(globs.matches(path), matching, "{path}");
        }
        assert!(matcher("a/*").unwrap().is_match("a/b") && !matcher("a/*").unwrap().is_match("a/b/c"));
    }

    #[test]
    fn the_glob_that_is_wrong_is_named() {
        let (origin, error) = set([("good", "a".to_owned()), ("bad", "b[".to_owned())]).unwrap_err();
        assert_eq!(origin, Some("bad"));
        assert!(error.to_string().starts_with("it is not a glob: "), "{error}");
        assert_eq!(matcher("b[").unwrap_err(), error);
    }
}
