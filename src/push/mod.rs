//! Push: gives what was built here to binary caches, from which every Nix can fetch it.
//!
//! 1. Choose: the paths that this job built, or those that a user names, with everything that they refer to.
//! 2. Leave out what a restore used without a signature, what depends on it, and what a substituter of nix.conf already has.
//! 3. For each sink: ask which of the rest it has, and push what it lacks. A path is announced (its narinfo is written) after its
//!    archive and after everything that it refers to.
//!
//! A sink that refuses is a note in the outcome, never an error. What was pushed before that stays, and is complete. A job that pushes
//! several times keeps a record of it, so that it neither asks nor sends twice.

mod choose;
mod narinfo;
mod native;
mod outcome;
mod pack;
mod pushed;
mod sink;
mod tool;
mod upload;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::attach::CacheError;
use crate::cache::publishable;
use crate::remote::objects::Objects;
use crate::series::sign::Keyring;
use crate::store::{PathInfo, StoreDirs, StorePath};
use crate::upstream::{Options, present};

pub(crate) use outcome::{PushOutcome, SinkOutcome};
pub(crate) use pushed::Pushed;
pub(crate) use sink::{OpenSink, Sink};

/// What is pushed, and where.
pub(crate) struct PushRequest {
    pub dirs: StoreDirs,
    /// The keys that sign, and those whose restored paths are trusted.
    pub keys: Keyring,
    /// With their names.
    pub sinks: Vec<(String, OpenSink)>,
    /// The paths to push with what they refer to; None for those that this job built.
    pub paths: Option<BTreeSet<StorePath>>,
    /// The substituters of Nix.
    pub substituters: Vec<String>,
    pub ca_file: Option<PathBuf>,
    /// Number of threads that hash.
    pub threads: usize,
    /// A folder for archives until they are pushed, if our folder beside the store cannot be written.
    pub temporary: PathBuf,
    /// When to stop; None for no limit.
    pub deadline: Option<Instant>,
    /// What this job has pushed before. It grows while this push is under way.
    pub pushed: Arc<Pushed>,
    /// The most NAR bytes for each sink, of a push while the job runs: it packs one path at a time. None for all that is to be pushed.
    pub most: Option<u64>,
}

/// What the pushes to all sinks share.
struct Work {
    dirs: StoreDirs,
    keys: Keyring,
    /// A folder for archives until they are pushed.
    folder: PathBuf,
    deadline: Option<Instant>,
    pushed: Arc<Pushed>,
    most: Option<u64>,
    /// Packing one path at a time: held while a path is packed.
    turn: Option<Arc<Mutex<()>>>,
}

/// Pushes to each sink.
///
/// # Errors
/// When the store cannot be read, or a named path is not valid.
pub(crate) async fn push(request: PushRequest) -> Result<PushOutcome, CacheError> {
    let start = Instant::now();
    let PushRequest { dirs, keys, sinks, paths, substituters, ca_file, threads, temporary, deadline, pushed, most } =
        request;
    let (place, trusted) = (dirs.clone(), keys.clone());
    let here = tokio::task::spawn_blocking(move || publishable(&place, &trusted, threads)).await??;
    let mut outcome = PushOutcome::default();
    let chosen = choose::choose(&dirs, &here, paths, &mut outcome);
    let is_native = |(_, sink): &(String, OpenSink)| matches!(sink, OpenSink::Native(_));
    if !chosen.is_empty() && !keys.can_sign() && sinks.iter().any(is_native) {
        outcome.notes.push(choose::unsigned());
    }
    let infos: Vec<&PathInfo> = chosen.iter().filter_map(|path| here.valid.get(path)).collect();
    outcome.paths_considered = infos.len() as u64;
    let (known, unknown): (Vec<&PathInfo>, Vec<&PathInfo>) = {
        let record = pushed.record();
        infos.into_iter().partition(|info| record.upstream.contains(&info.path))
    };
    let upstream = present(&substituters, &unknown, Options { ca_file, ..Options::default() }).await;
    outcome.paths_upstream = (known.len() + upstream.len()) as u64;
    let wanted: Vec<&PathInfo> = unknown.into_iter().filter(|info| !upstream.contains(&info.path)).collect();
    pushed.record().upstream.extend(upstream);
    let turn = most.map(|_| Arc::default());
    let work = Work { folder: pack::folder(&dirs, temporary), dirs, keys, deadline, pushed, most, turn };
    for (name, sink) in &sinks {
        let done = match sink {
            OpenSink::Native(objects) => native::push(&work, name, &**objects, &wanted, &mut outcome.notes).await,
            OpenSink::Tool(tool) => tool::push(&work, tool, &wanted, &mut outcome.notes).await,
            OpenSink::Unusable(why) => outcome::unusable(name, why, &mut outcome.notes),
        };
        outcome.sinks.push(SinkOutcome { name: name.clone(), ..done });
    }
    outcome.seconds = start.elapsed().as_secs_f64();
    Ok(outcome)
}

/// A sink that is a binary cache of Nix's own kind.
type Native = Arc<dyn Objects>;
