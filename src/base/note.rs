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
    ($($name:ident $word:literal $meaning:literal $remedy:literal $($help:literal)?)*) => {
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

            /// Returns the causes and remedies for the documentation, as sentences.
            #[cfg(test)]
            const fn help(self) -> &'static str {
                match self { $(Self::$name => concat!($($help)?)),* }
            }
        }
    };
}

codes! {
    BaseUnread "base-unread" "A save could not read the newest snapshot, so it uploads everything that it needs." ""
        "The service was slow or failing. Nothing is lost: the next save that can read it merges it. If it happens in every job, look at the status of GitHub's cache."
    CannotAttach "cannot-attach" "Nothing can be added to the store of this machine." ""
        "The job may not write to the store: no root and no password-less `sudo`, or a store of another user. Use an installer whose store belongs to the job's user, or allow `sudo`."
    CheckpointFailed "checkpoint-failed" "Nothing, or not everything, could be saved while the job ran." "The save at the end of the job does not depend on it."
        "A network problem, or the cache refused it; the message says which. What the job built is lost only if it is killed. `progressive: off` switches these saves off."
    CostGuard "cost-guard" "The cache cost the last runs of this lane more time than it saved, so it is used less." ""
        "Every tenth run tests whether the cache pays again. If substituters are fast and little is built, leave the cache out of this job. `guard: off` uses it in any case."
    Deadline "deadline" "A save took longer than `save-timeout`." "Increase `save-timeout` if this happens often."
        "Much was new, or the link slow. What was uploaded counts; the rest follows with the next save."
    DerivationsMissing "derivations-missing" "Derivations of a plan are not available, and their targets are evaluated again." ""
        "The entry was evicted, or the plan saved nothing (`save: never`). The job evaluates instead; it only takes longer."
    DerivationsNotSaved "derivations-not-saved" "Derivations of a plan were not saved, so its jobs evaluate." ""
        "The cache refused it or was not there. The jobs of this plan evaluate."
    DerivationsRefused "derivations-refused" "A derivations entry contains a path that nothing proves, which was left out." ""
        "Somebody else than a plan wrote the entry, or it is damaged. The targets concerned are evaluated. Look at who may write to the cache."
    EntriesLost "entries-lost" "Entries of the cache are missing, and their content is saved again." ""
        "GitHub evicted layers while the snapshot that names them stayed. What this job has of them is stored again. Keep the total below the limit with `max-size`."
    EvalCache "eval-cache" "Nix's own caches could not be inspected." "They are left out."
        "A file of Nix's caches is locked or unreadable. `eval-cache: false` switches the part off."
    EvalCacheTooLarge "eval-cache-too-large" "One of Nix's own caches is too large to be saved." ""
        "Delete it, or set `eval-cache: false`."
    EvalCacheUnreadable "eval-cache-unreadable" "One of Nix's own caches could not be read." ""
        "It is damaged or belongs to another user. Nix makes it again."
    Evicted "evicted" "Entries that earlier jobs saved are no longer in GitHub's cache." ""
        "The repository's caches are larger than the limit, or nobody used the entries for seven days. Lower `max-size`, delete other caches, or run a scheduled job."
    FilesDamaged "files-damaged" "A files entry is damaged and was skipped." ""
        "The entry was cut off while it was written or sent. The next save replaces it."
    FilesFailed "files-failed" "A files entry could not be downloaded." ""
        "A network problem. The next job tries again."
    FilesFormat "files-format" "A files entry was written by another version of this program." ""
        "It was written by a newer or much older version. Use one version in all workflows."
    FilesLookupFailed "files-lookup-failed" "The lookup of a files entry failed." ""
        "A network problem. The next job tries again."
    FilesLookupRefused "files-lookup-refused" "The cache refused the lookup of a files entry." ""
        "The job has no access to the cache, as with `cache-mode: none`."
    FilesNoRoom "files-no-room" "The disk has no room for a files entry." ""
        "Free space on the disk, or put less into `paths`."
    FilesNotPlaced "files-not-placed" "Some files of an entry could not be written." ""
        "The job may not write there, or a link or another kind of file is in the way. The message names the place."
    FilesNotSaved "files-not-saved" "Files could not be packed and were not saved." ""
        "A file changed or vanished while it was read. Name paths that are finished when the job ends."
    FilesOutside "files-outside" "A files entry contains files outside the paths that this job names." ""
        "An earlier job had other `paths`. Those files are left out."
    FilesRefused "files-refused" "A files entry is not one that this program would write." ""
        "The entry holds what Nix or Git would execute. Look at who may write to the cache."
    FilesSaveFailed "files-save-failed" "Files could not be saved." ""
        "A network problem. The next job saves them."
    FilesSaveRefused "files-save-refused" "The cache refused the files of this job." ""
        "The token may only read, as in pull requests from forks."
    FilesSpecial "files-special" "Special files (neither files, folders nor links) were left out." ""
        "Sockets, pipes and devices cannot be cached. Exclude them with `!` in `paths`."
    FilesUnmatched "files-unmatched" "A pattern matches no file." ""
        "Check the spelling of the pattern, and whether the job makes the file before it ends."
    FilesUnreadable "files-unreadable" "Some files could not be read and were left out." ""
        "They belong to another user. Exclude them with `!`, or change their rights."
    FilesUntrusted "files-untrusted" "A files entry is not signed by a trusted key." ""
        "It was saved without a key, or with another one. The next save with the key replaces it."
    HistoryArtifact "history-artifact" "The record of this job was not uploaded as an artifact." "The job is not affected."
        "The service of artifacts refused it or did not answer, or the job does not run on GitHub. `history: cache` or `history: off` uploads none."
    LayerDamaged "layer-damaged" "A layer is damaged and was not used." ""
        "It changed on the way or in the cache. Its paths are built or fetched, and stored again."
    LayerFailed "layer-failed" "A layer could not be downloaded." ""
        "A network problem. Its paths are built or fetched."
    LayerLost "layer-lost" "Bytes of a streamed layer could not be fetched while the job ran." "With `restore-mode: download`, a layer is used only if all of it arrived."
        "The service failed for longer than retries help, or the layer was evicted while the job ran. What was reading it got an error."
    LayerMissing "layer-missing" "A layer is no longer in the cache." ""
        "It was evicted. Its paths are built or fetched, and stored again; see `evicted`."
    LayerRefused "layer-refused" "A layer is not an image that this program would write." ""
        "Somebody else than this program wrote it. Look at who may write to the cache, and use `signing-key`."
    LookupFailed "lookup-failed" "The lookup of a snapshot failed." ""
        "A network problem, or the service is down. The job runs without the cache."
    LookupRefused "lookup-refused" "The cache refused the lookup of a snapshot." ""
        "The job has no access to the cache, as with `cache-mode: none` or `write-only`."
    NoCache "no-cache" "This job has no cache." "The job continues without a cache."
        "The runner offers no cache service, or the program does not run on this machine. The message says which."
    NoRoom "no-room" "The disk has no room for everything in the cache." ""
        "Free space before the restore, lower `max-size`, or give each kind of job a `lane` of its own, which restores only what it uses."
    NoSigningKey "no-signing-key" "This job has no signing key, so it saves nothing." ""
        "The secret is not there, as in pull requests from forks, while `trusted-public-keys` is set. Nothing has to be done for forks; elsewhere, pass the secret as `signing-key`."
    NotMounted "not-mounted" "Layers were unpacked instead of mounted." ""
        "The message says why: a container, a read-only store, another process at work, or no rights. Restores take longer, and work all the same."
    NotStreamed "not-streamed" "Layers were downloaded instead of streamed." ""
        "The message says why. The restore takes as long as the download, and nothing is lost."
    NotVerified "not-verified" "Unverified paths were not signed." ""
        "Nothing vouches for paths that came without a signature. They are signed once they are rebuilt or proven."
    PathCorrupt "path-corrupt" "A path in the store is damaged and was not saved." ""
        "Its bytes differ from Nix's database. Repair it with `nix-store --verify --check-contents --repair`."
    PathsRejected "paths-rejected" "Some paths of the cache could not be used." ""
        "Their records contradict what can be computed. They are built or fetched. If it happens again, look at who may write to the cache."
    PushFailed "push-failed" "A binary cache could not be reached, so not everything was pushed to it." ""
        "A network problem, or the server is down. What was pushed is complete and usable; the next job pushes the rest."
    PushIncomplete "push-incomplete" "Some paths were not pushed to a binary cache." ""
        "The message names one of them and the reason: too large for the server, damaged in the store, or no time left. The others were pushed."
    PushRefused "push-refused" "A binary cache refused what was to be pushed." ""
        "No or wrong credentials, no rights to write, a full disk, or a cache for another store directory. The message says which."
    PushUnknown "push-unknown" "It is not known which paths are new, so nothing was pushed." ""
        "No restore was recorded in this store. Put the action before everything that builds, or name the paths to push."
    PushUnsigned "push-unsigned" "What was pushed, or was to be pushed, is not signed." ""
        "Nix accepts only signed paths by default. Pass a key as `signing-key`."
    Quota "quota" "GitHub's cache is nearly full." "Set `max-size` to keep this cache small, or raise the limit in the repository's settings."
        "GitHub evicts the least recently used entries above the limit."
    ReadOnlyToken "read-only-token" "This job has no write access to the cache." ""
        "Pull requests from forks and untrusted triggers cannot save. Nothing has to be done."
    RecordsFaulty "records-faulty" "Records of a snapshot contradict themselves and were left out." ""
        "A damaged or forged snapshot. What is left of it is used."
    RemoteFailed "remote-failed" "One of several remotes could not be used." "The others are used."
        "It is down, its credentials are missing, or it refuses them: the message says which. Layers that only it has are missing; nothing of the others is affected."
    RestoreFailed "restore-failed" "The restore failed." "The job continues without the cache."
        "The message has the cause. Please report it unless it is a network problem."
    RestoreTimeout "restore-timeout" "A restore took longer than `restore-timeout`; what was complete was used." ""
        "A slow link or a large store. Raise `restore-timeout`, or lower `max-size`."
    SaveFailed "save-failed" "The save failed, and nothing was saved." ""
        "The message has the cause. The next job saves what this one did not."
    SaveRefused "save-refused" "The cache accepts nothing from this job." ""
        "The token may only read, the quota is used up, or the service refuses the job. The message says which."
    SnapshotOtherSystem "snapshot-other-system" "A snapshot of another system has the same key and was skipped." ""
        "A key of your own has no system in it. Add `${{ runner.os }}-${{ runner.arch }}` to it, or let the key be computed."
    SnapshotUnreadable "snapshot-unreadable" "A snapshot could not be read and was skipped." ""
        "It is damaged or was written by a newer version. The next save writes a new one."
    SnapshotUntrusted "snapshot-untrusted" "A snapshot is not signed by a trusted key and was skipped." ""
        "It was saved without a key, or with another one. Save once with the key, on the default branch."
    StoreInUse "store-in-use" "Another process uses the store, so nothing was restored." ""
        "A build or another restore was running. Put the step before everything that starts Nix."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_the_causes_and_remedies_of_every_code() {
        const START: &str = "<!-- codes -->\n";
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/notes.md");
        let there = std::fs::read_to_string(&file).unwrap();
        let (before, _) = there.split_once(START).expect("docs/notes.md has the mark");
        let mut wanted = format!("{before}{START}\n| code | meaning | causes, and what to do |\n|---|---|---|\n");
        for code in Code::ALL {
            assert!(code.help().ends_with('.'), "write down causes and remedies of {code:?}, behind its remedy above");
            let all = format!("{} {}", code.help(), code.remedy());
            let row = format!("| `{}` | {} | {} |\n", code.word(), code.meaning(), all.trim_end());
            wanted.push_str(&row);
        }
        if std::env::var_os("NIX_CACHE_TEST_RENEW").is_some() {
            std::fs::write(&file, &wanted).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), wanted, "renew it with NIX_CACHE_TEST_RENEW=1");
    }

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
