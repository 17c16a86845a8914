//! The outcome of a push: facts for the log, the summary and the outputs.

use serde::Serialize;

use super::pushed::InSink;
use crate::base::human;
use crate::base::note::{Code, Note};

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct PushOutcome {
    /// Number of paths that were to be pushed, with what they refer to.
    pub paths_considered: u64,
    /// Of these, the paths that a substituter of nix.conf has.
    pub paths_upstream: u64,
    /// Number of built or named paths that were left out because nothing vouches for them.
    pub paths_unverified: u64,
    pub sinks: Vec<SinkOutcome>,
    /// Notes for the user.
    pub notes: Vec<Note>,
    /// Total duration in seconds.
    pub seconds: f64,
}

/// What one sink got.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct SinkOutcome {
    /// Where it is.
    pub sink: String,
    /// Its name, as it was given.
    #[serde(skip)]
    pub name: String,
    /// The program that pushed, if another one did. It alone knows what the sink had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<&'static str>,
    /// Whether it now has everything that it was to get.
    pub complete: bool,
    /// Number of paths that it had.
    pub paths_present: u64,
    /// Number of paths that were pushed.
    pub paths_pushed: u64,
    /// Their total NAR size.
    pub nar_bytes: u64,
    /// Bytes uploaded.
    pub bytes_uploaded: u64,
    /// Number of paths that it lacks.
    pub paths_missing: u64,
    /// Number of further paths that a later push of this job gets to.
    #[serde(skip)]
    pub paths_later: u64,
    /// What this job pushed to it before, while it ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Earlier>,
    /// Duration in seconds.
    pub seconds: f64,
}

/// What one sink got while the job ran.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Earlier {
    pub paths_pushed: u64,
    pub bytes_uploaded: u64,
}

impl PushOutcome {
    /// Whether everything that was to be pushed is where it was to be.
    pub(crate) fn is_complete(&self) -> bool {
        let is_serious = |note: &Note| {
            matches!(note.code, Code::NotVerified | Code::PushUnknown)
                || (note.code == Code::PushUnsigned && self.paths_considered == 0)
        };
        self.sinks.iter().all(|sink| sink.complete) && !self.notes.iter().any(is_serious)
    }

    /// What happened, a sentence or two for each sink.
    pub(crate) fn sentences(&self) -> Vec<String> {
        self.sinks.iter().map(SinkOutcome::sentence).collect()
    }

    /// The number of pushed paths, and of uploaded bytes, over all sinks.
    pub(crate) fn pushed(&self) -> (u64, u64) {
        let paths = self.sinks.iter().map(|sink| sink.paths_pushed).sum();
        (paths, self.sinks.iter().map(|sink| sink.bytes_uploaded).sum())
    }

    /// The table of the job summary: its head, and a row for each sink.
    pub(crate) fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let early = self.sinks.iter().any(|sink| sink.earlier.is_some());
        let row = |sink: &SinkOutcome| {
            let earlier = sink.earlier.unwrap_or(Earlier { paths_pushed: 0, bytes_uploaded: 0 });
            let mut row = vec![
                sink.sink.clone(),
                human::number(sink.paths_pushed),
                human::bytes(sink.bytes_uploaded + earlier.bytes_uploaded),
                human::number(sink.paths_present),
                human::number(sink.paths_missing),
            ];
            if early {
                row.insert(1, human::number(earlier.paths_pushed));
            }
            row
        };
        let head = if early {
            vec![
                "Binary cache",
                "Pushed while the job ran",
                "Pushed at its end",
                "Uploaded",
                "Had already",
                "Still lacks",
            ]
        } else {
            vec!["Binary cache", "Pushed", "Uploaded", "Had already", "Still lacks"]
        };
        (head, self.sinks.iter().map(row).collect())
    }
}

impl SinkOutcome {
    /// The outcome for a sink that lacks nothing so far.
    pub(super) fn after(sink: &str, before: &InSink) -> Self {
        let earlier = Earlier { paths_pushed: before.pushed.len() as u64, bytes_uploaded: before.bytes };
        let earlier = Some(earlier).filter(|earlier| earlier.paths_pushed > 0);
        Self { sink: sink.to_owned(), complete: true, earlier, ..Self::default() }
    }

    pub(crate) fn sentence(&self) -> String {
        let earlier = self.earlier.map(|Earlier { paths_pushed, bytes_uploaded }| {
            let size = if bytes_uploaded == 0 {
                String::new()
            } else {
                format!(" ({} uploaded)", human::bytes(bytes_uploaded))
            };
            format!(" While the job ran: {}{size}.", human::count(paths_pushed, "path"))
        });
        format!("{}{}", self.of_this_push(), earlier.unwrap_or_default())
    }

    fn of_this_push(&self) -> String {
        let Self { sink, paths_pushed, paths_present, paths_missing, nar_bytes, bytes_uploaded, seconds, .. } = self;
        let sizes = match paths_pushed {
            0 => String::new(),
            _ => format!(" ({}, {} uploaded)", human::bytes(*nar_bytes), human::bytes(*bytes_uploaded)),
        };
        let missing =
            if *paths_missing == 0 { String::new() } else { format!(", {paths_missing} still missing there") };
        let pushed = human::count(*paths_pushed, "path");
        if let Some(tool) = self.tool {
            return format!("{pushed} given to `{tool}` for {sink}{missing}; {seconds:.1} s.");
        }
        format!("{pushed} pushed to {sink}{sizes}, {paths_present} already there{missing}; {seconds:.1} s.")
    }
}

/// The outcome for a sink that cannot be used at all.
pub(super) fn unusable(name: &str, why: &str, notes: &mut Vec<Note>) -> SinkOutcome {
    notes.push(Note::warn(Code::PushRefused, format!("Nothing was pushed to {name}: {why}")));
    SinkOutcome { sink: name.to_owned(), ..SinkOutcome::default() }
}
