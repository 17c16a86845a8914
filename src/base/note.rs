//! Notes: what a step tells the user besides its result. Every kind of note is listed here, with its code and remedy.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much a note matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Information.
    #[default]
    Notice,
    /// Something did not work.
    Warning,
    /// The job failed because of it, as the user requested.
    Error,
}

/// A message for the user, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Note {
    /// How much it matters.
    pub severity: Severity,
    /// The kind of note: a stable word, for programs and for searching the documentation.
    pub code: Code,
    /// What happened, as a sentence.
    pub message: String,
    /// What to do about it, as a sentence; empty if there is nothing to do.
    pub remedy: String,
}

impl Note {
    /// Creates a note with the remedy of its kind, without logging it.
    #[must_use]
    pub fn silent(severity: Severity, code: Code, message: impl Into<String>) -> Self {
        Self { severity, code, message: message.into(), remedy: code.remedy().to_owned() }
    }

    /// Creates a note and logs it as a warning.
    #[must_use]
    pub fn warn(code: Code, message: impl Into<String>) -> Self {
        let note = Self::silent(Severity::Warning, code, message);
        tracing::warn!("{note}");
        note
    }

    /// Creates a note and logs it as information.
    #[must_use]
    pub fn info(code: Code, message: impl Into<String>) -> Self {
        let note = Self::silent(Severity::Notice, code, message);
        tracing::info!("{note}");
        note
    }

    /// Replaces the remedy.
    #[must_use]
    pub fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message.trim_end())?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " {}", self.remedy) }
    }
}

/// Defines [`Code`]: each kind of note with its word, meaning and remedy.
macro_rules! codes {
    ($($name:ident $word:literal $meaning:literal $remedy:literal)*) => {
        /// The kinds of notes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $(#[doc = $meaning] #[serde(rename = $word)] $name,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the word of the code.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }

            /// Returns the meaning, as a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning),* }
            }

            /// Returns what to do about it, as a sentence; empty if the message says so itself, or if there is nothing to do.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy),* }
            }
        }
    };
}

codes! {
    BaseUnread "base-unread" "A save could not read the newest snapshot, so it uploads everything that it needs." ""
    CannotAttach "cannot-attach" "Nothing can be added to the store of this machine." ""
    Deadline "deadline" "A save took longer than `save-timeout`." "Increase `save-timeout` if this happens often."
    DerivationsMissing "derivations-missing" "Derivations of a plan are not available, and their targets are evaluated again." ""
    DerivationsNotSaved "derivations-not-saved" "Derivations of a plan were not saved, so its jobs evaluate." ""
    DerivationsRefused "derivations-refused" "A derivations entry contains a path that nothing proves, which was left out." ""
    EntriesLost "entries-lost" "Entries of the cache are missing, and their content is saved again." ""
    EvalCache "eval-cache" "Nix's own caches could not be inspected." "They are left out."
    EvalCacheTooLarge "eval-cache-too-large" "One of Nix's own caches is too large to be saved." ""
    EvalCacheUnreadable "eval-cache-unreadable" "One of Nix's own caches could not be read." ""
    Evicted "evicted" "Entries that earlier jobs saved are no longer in GitHub's cache." ""
    FilesDamaged "files-damaged" "A files entry is damaged and was skipped." ""
    FilesFailed "files-failed" "A files entry could not be downloaded." ""
    FilesFormat "files-format" "A files entry was written by another version of this program." ""
    FilesLookupFailed "files-lookup-failed" "The lookup of a files entry failed." ""
    FilesLookupRefused "files-lookup-refused" "The cache refused the lookup of a files entry." ""
    FilesNoRoom "files-no-room" "The disk has no room for a files entry." ""
    FilesNotPlaced "files-not-placed" "Some files of an entry could not be written." ""
    FilesNotSaved "files-not-saved" "Files could not be packed and were not saved." ""
    FilesOutside "files-outside" "A files entry contains files outside the paths that this job names." ""
    FilesRefused "files-refused" "A files entry is not one that this program would write." ""
    FilesSaveFailed "files-save-failed" "Files could not be saved." ""
    FilesSaveRefused "files-save-refused" "The cache refused the files of this job." ""
    FilesSpecial "files-special" "Special files (neither files, folders nor links) were left out." ""
    FilesUnmatched "files-unmatched" "A pattern matches no file." ""
    FilesUnreadable "files-unreadable" "Some files could not be read and were left out." ""
    FilesUntrusted "files-untrusted" "A files entry is not signed by a trusted key." ""
    LayerDamaged "layer-damaged" "A layer is damaged and was not used." ""
    LayerFailed "layer-failed" "A layer could not be downloaded." ""
    LayerLost "layer-lost" "Bytes of a streamed layer could not be fetched while the job ran." "The next save replaces them. With `restore-mode: download`, a layer is used only if all of it arrived."
    LayerMissing "layer-missing" "A layer is no longer in the cache." ""
    LayerRefused "layer-refused" "A layer is not an image that this program would write." ""
    LookupFailed "lookup-failed" "The lookup of a snapshot failed." ""
    LookupRefused "lookup-refused" "The cache refused the lookup of a snapshot." ""
    NoCache "no-cache" "This job has no cache." "The job continues without a cache."
    NoRoom "no-room" "The disk has no room for everything in the cache." ""
    NoSigningKey "no-signing-key" "This job has no signing key, so it saves nothing." ""
    NotMounted "not-mounted" "Layers were unpacked instead of mounted." ""
    NotStreamed "not-streamed" "Layers were downloaded instead of streamed." ""
    NotVerified "not-verified" "Unverified paths were not signed." ""
    PathCorrupt "path-corrupt" "A path in the store is damaged and was not saved." ""
    PathsRejected "paths-rejected" "Some paths of the cache could not be used." ""
    Quota "quota" "GitHub's cache is nearly full." "Set `max-size` to keep this cache small, or raise the limit in the repository's settings."
    ReadOnlyToken "read-only-token" "This job has no write access to the cache." ""
    RecordsFaulty "records-faulty" "Records of a snapshot contradict themselves and were left out." ""
    RestoreFailed "restore-failed" "The restore failed." "The job continues without the cache."
    RestoreTimeout "restore-timeout" "A restore took longer than `restore-timeout`; what was complete was used." ""
    SaveFailed "save-failed" "The save failed, and nothing was saved." ""
    SaveRefused "save-refused" "The cache accepts nothing from this job." ""
    SnapshotOtherSystem "snapshot-other-system" "A snapshot of another system has the same key and was skipped." ""
    SnapshotUnreadable "snapshot-unreadable" "A snapshot could not be read and was skipped." ""
    SnapshotUntrusted "snapshot-untrusted" "A snapshot is not signed by a trusted key and was skipped." ""
    StoreInUse "store-in-use" "Another process uses the store, so nothing was restored." ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_order_and_the_documentation_has_each() {
        let words: Vec<&str> = Code::ALL.iter().map(|code| code.word()).collect();
        assert!(words.is_sorted());
        let text = include_str!("../../docs/notes.md");
        for code in Code::ALL {
            let line = format!("| `{}` | {} |", code.word(), code.meaning());
            assert!(text.contains(&line), "docs/notes.md lacks this line:\n{line}");
            assert_eq!(serde_json::to_value(code).unwrap(), code.word());
            assert!(code.remedy().is_empty() || code.remedy().ends_with('.'));
        }
    }

    #[test]
    fn a_note_says_what_to_do() {
        let note = Note::silent(Severity::Notice, Code::Quota, "It is full.");
        assert_eq!(note.to_string(), format!("It is full. {}", Code::Quota.remedy()));
        assert_eq!(note.with_remedy("").to_string(), "It is full.");
    }
}
