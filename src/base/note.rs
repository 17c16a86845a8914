//! What a user should know of a step: notes, and all the kinds of them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much a note matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    #[default]
    Notice,
    /// Something did not work.
    Warning,
    /// The job failed for it, as the user wished.
    Error,
}

/// Something that the user should know, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Note {
    /// How much it matters.
    pub severity: Severity,
    /// Its kind: a word that stays the same, for programs and for searching the documentation.
    pub code: Code,
    /// What happened, as a sentence.
    pub message: String,
    /// What to do about it, as a sentence; empty when there is nothing.
    pub remedy: String,
}

impl Note {
    /// A note with the remedy of its kind, which nobody has been told yet.
    #[must_use]
    pub fn silent(severity: Severity, code: Code, message: impl Into<String>) -> Self {
        Self { severity, code, message: message.into(), remedy: code.remedy().to_owned() }
    }

    /// A note that is also logged as a warning now.
    #[must_use]
    pub fn warn(code: Code, message: impl Into<String>) -> Self {
        let note = Self::silent(Severity::Warning, code, message);
        tracing::warn!("{note}");
        note
    }

    /// A note that is also logged for information now.
    #[must_use]
    pub fn info(code: Code, message: impl Into<String>) -> Self {
        let note = Self::silent(Severity::Notice, code, message);
        tracing::info!("{note}");
        note
    }

    /// The same note with another remedy.
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

/// Defines [`Code`]: each kind of note with its word, what it means, and what to do about it.
macro_rules! codes {
    ($($name:ident $word:literal $meaning:literal $remedy:literal)*) => {
        /// The kinds of notes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $(#[doc = $meaning] #[serde(rename = $word)] $name,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its word.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }

            /// What it means, as a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning),* }
            }

            /// What to do about it, as a sentence; empty where the message itself says so, or there is nothing.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy),* }
            }
        }
    };
}

codes! {
    BaseUnread "base-unread" "A save could not read what the cache has, and writes all that it needs." ""
    CannotAttach "cannot-attach" "Nothing can be put into the store of this machine." ""
    Deadline "deadline" "A save took longer than `save-timeout`." "Raise `save-timeout` if that happens often."
    EntriesLost "entries-lost" "Entries of the cache are gone, and what they held is saved again." ""
    EvalCache "eval-cache" "Nix's own caches could not be looked at." "They are left out."
    EvalCacheTooLarge "eval-cache-too-large" "A cache of Nix's is too large to be kept." ""
    EvalCacheUnreadable "eval-cache-unreadable" "A cache of Nix's could not be read." ""
    Evicted "evicted" "What earlier jobs saved is not in GitHub's cache any more." ""
    FilesDamaged "files-damaged" "An entry of files is damaged, and was passed over." ""
    FilesFailed "files-failed" "An entry of files could not be fetched." ""
    FilesFormat "files-format" "An entry of files was written by another version of this program." ""
    FilesLookupFailed "files-lookup-failed" "The cache could not be asked for files." ""
    FilesLookupRefused "files-lookup-refused" "The cache refused to be asked for files." ""
    FilesNoRoom "files-no-room" "The disk has no room for an entry of files." ""
    FilesNotPlaced "files-not-placed" "Files of an entry could not be put in their places." ""
    FilesNotSaved "files-not-saved" "Files could not be packed, and were not saved." ""
    FilesOutside "files-outside" "Files of an entry lie outside of the places that this job names." ""
    FilesRefused "files-refused" "An entry of files is not one that this program would write." ""
    FilesSaveFailed "files-save-failed" "Files could not be saved." ""
    FilesSaveRefused "files-save-refused" "The cache takes no files from this job." ""
    FilesSpecial "files-special" "Things that are neither files, folders nor links were left out." ""
    FilesUnmatched "files-unmatched" "A pattern matches no file." ""
    FilesUnreadable "files-unreadable" "Files could not be read, and were left out." ""
    FilesUntrusted "files-untrusted" "An entry of files is not signed by a trusted key." ""
    LayerDamaged "layer-damaged" "A layer is damaged, and was not used." ""
    LayerFailed "layer-failed" "A layer could not be fetched." ""
    LayerMissing "layer-missing" "A layer is not in the cache any more." ""
    LayerRefused "layer-refused" "A layer is not an image that this program would write." ""
    LookupFailed "lookup-failed" "The cache could not be asked for a snapshot." ""
    LookupRefused "lookup-refused" "The cache refused to be asked for a snapshot." ""
    NoCache "no-cache" "There is no cache in this job." "The job goes on without a cache."
    NoRoom "no-room" "The disk has no room for all that the cache has." ""
    NoSigningKey "no-signing-key" "This job has no key to sign with, and saves nothing." ""
    NotMounted "not-mounted" "Layers were unpacked and not mounted." ""
    NotVerified "not-verified" "Paths that nothing vouches for were not signed." ""
    PathCorrupt "path-corrupt" "A path of the store here is damaged, and was not saved." ""
    PathsRejected "paths-rejected" "Paths of the cache could not be used." ""
    Quota "quota" "GitHub's cache is nearly full." "Give `max-size` to keep this cache small, or raise the limit in the repository's settings."
    ReadOnlyToken "read-only-token" "This job may not write to the cache." ""
    RecordsFaulty "records-faulty" "Records of a snapshot contradict themselves, and were left out." ""
    RestoreFailed "restore-failed" "The restore broke off." "The job goes on without the cache."
    RestoreTimeout "restore-timeout" "A restore took longer than `restore-timeout`, and used what was whole." ""
    SaveFailed "save-failed" "Nothing was saved." ""
    SaveRefused "save-refused" "The cache takes nothing from this job." ""
    SnapshotOtherSystem "snapshot-other-system" "A snapshot of another system has this key, and was passed over." ""
    SnapshotUnreadable "snapshot-unreadable" "A snapshot could not be read, and was passed over." ""
    SnapshotUntrusted "snapshot-untrusted" "A snapshot is not signed by a trusted key, and was passed over." ""
    StoreInUse "store-in-use" "Somebody else uses the store, and nothing was restored." ""
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
