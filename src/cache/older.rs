//! The files of older layers, in which a save finds blocks that it need not compress and send again.

use std::path::PathBuf;

use super::Context;
use super::stream::step;
use crate::attach::mounted::places;
use crate::attach::privileged::{Answer, Request};
use crate::attach::stream;
use crate::snapshot::Snapshot;

/// The files of the layers of `snapshot` that are mounted here. Those of a stream count only when all of it has arrived: a save does not
/// fetch what it may not need.
pub(super) async fn files_of(context: &Context, snapshot: &Snapshot) -> Vec<PathBuf> {
    let dirs = &context.place.dirs;
    let places = places(dirs);
    let mut files: Vec<PathBuf> = snapshot.layers.keys().map(|id| places.layers.join(id.to_string())).collect();
    if stream::is_running(dirs) {
        let request = Request::StreamStatus { store_root: dirs.root().map(Into::into), order: None };
        let is_here = match step(dirs, request).await {
            Ok(Answer::StreamStatus(Some(status))) => status.bytes_here >= status.bytes,
            _ => false,
        };
        if is_here {
            let is_wanted = |file: &PathBuf| {
                let name = file.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
                name.is_some_and(|id| snapshot.layers.contains_key(&id))
            };
            files.extend(stream::files(&places).into_iter().filter(is_wanted));
        }
    }
    files.retain(|file| file.is_file());
    files.sort();
    files
}
