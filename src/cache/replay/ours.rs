//! A job with this program: the key, the search, the lanes, the choice of paths, their expiry and the repacking of layers are the real
//! code. Only what moves bytes is replaced: a layer is as large as its paths, compressed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::super::base::{Base, load_base};
use super::super::checkpoint::Moment;
use super::super::commit::{Pushed, push_snapshot};
use super::super::last;
use super::super::record::RestoreRecord;
use super::super::repack::Turn;
use super::super::restore::{assign, for_lane};
use super::super::room::layer_bytes;
use super::super::search::snapshot_names;
use super::super::select::{Situation, select};
use super::super::system::find_fitting;
use super::super::to_pack::{keep_held, plan};
use super::super::used::{finish_snapshot, mark_lane, mark_used};
use super::super::{Context, Identity, ModeRequest, Packing, Place};
use super::model::Needs;
use super::service::View;
use super::{Job, RATIO};
use crate::base::digest::Sha;
use crate::flake::{KeyRequest, key};
use crate::layer::digest::{CHUNK_SIZE, Digests};
use crate::remote::Kind;
use crate::series::sign::Keyring;
use crate::snapshot::Stored;
use crate::store::{PathInfo, Paths, StoreDirs, StorePath};

/// The context of a job of `lane` at a commit with this lock file. Without `near`, only the key itself is looked up.
pub(super) fn context(view: &View, job: &Job<'_>, near: bool) -> Context {
    let request = KeyRequest {
        system: "x86_64-linux".to_owned(),
        locks: vec![job.lock.clone()],
        ..KeyRequest::new(job.lock.parent().unwrap())
    };
    let key = key(&request).unwrap();
    let run = format!("{} {} {}", view.branch, view.now, job.lane);
    let prefixes = if near { key.restore_prefixes } else { Vec::new() };
    Context {
        identity: Identity { key: key.primary, prefixes, system: request.system, lane: job.lane.to_owned(), run },
        packing: Packing::default(),
        place: Place {
            dirs: StoreDirs::new(Some(&PathBuf::from("/nowhere"))),
            remote: Arc::new(view.clone()),
            keys: Keyring::default(),
            mode: ModeRequest::Unpack,
            temporary: PathBuf::from("/nowhere"),
            deadline: None,
            limit: None,
        },
    }
}

/// Restores, unless that needs more than `limit` bytes. Returns the paths and what the save has to know.
pub(super) async fn restore(context: &Context, view: &View, limit: u64) -> (Paths, RestoreRecord) {
    let mut record = RestoreRecord::begin(&context.identity.run, BTreeSet::new(), None);
    let mut notes = Vec::new();
    let found = find_fitting(context, &snapshot_names(context), &mut notes).await.unwrap().found;
    let Some(found) = found else { return (Paths::default(), record) };
    record.matched = Some(crate::series::generation_name(&found.key, found.generation));
    let chosen = found.snapshot.chosen();
    let missing: Paths<&PathInfo> = chosen.into_iter().map(|(path, record)| (path, &record.info)).collect();
    let valid = Paths::default();
    let missing = for_lane(context, &found.snapshot, missing, &valid);
    let mut here: Paths<&PathInfo> = Paths::default();
    let assigned = assign(&found.snapshot.layers, &missing);
    if layer_bytes(&found.snapshot, assigned.keys()) > limit {
        return (Paths::default(), record);
    }
    for (id, paths) in assigned {
        let all_there = found.snapshot.layers[&id].stored().into_iter().all(|stored| {
            let entry = &found.snapshot.stored[&stored];
            let there = view
                .look_up(Kind::Layer, std::slice::from_ref(&entry.entry))
                .is_some_and(|(name, _)| name == entry.entry);
            if there {
                view.downloaded(entry.digests.size);
                record.fetched.insert(stored);
            } else {
                record.lost_layers.insert(stored);
            }
            there
        });
        if all_there {
            here.extend(paths.into_iter().map(|path| (path.clone(), missing[&path])));
        }
    }
    // A path is registered only with everything that it refers to.
    let whole = here.closed_subset(&|_| false);
    let paths: Paths = here
        .iter()
        .filter(|(path, _)| whole.contains(*path))
        .map(|(path, info)| (path.clone(), (*info).clone()))
        .collect();
    record.restored = paths.keys().cloned().collect();
    (paths, record)
}

/// Saves, as `save_paths` does.
pub(super) async fn save(context: &Context, view: &View, valid: &Paths, needs: &Needs, record: &RestoreRecord) {
    let mut notes = Vec::new();
    let Ok(search) = last::find(context, None, &mut notes).await else { return };
    let Ok(mut base) = load_base(context, (search, None), record, valid, &mut notes).await else { return };
    let bases = [&base.same_key, &base.near];
    let known: BTreeSet<StorePath> =
        bases.into_iter().flatten().flat_map(|snapshot| snapshot.paths.keys().map(|key| key.0.clone())).collect();
    let lane_before = bases.into_iter().flatten().find_map(|base| base.lanes.get(&context.identity.lane));
    let lane_before: Option<BTreeSet<StorePath>> = lane_before.map(|lane| lane.paths.keys().cloned().collect());
    let roots = BTreeSet::from([needs.result.clone()]);
    let selection = select(&Situation {
        valid,
        baseline: &record.baseline,
        known: &known,
        restored: &record.restored,
        lane_before: lane_before.as_ref(),
        roots: &roots,
        lock_changed: base.near.is_some(),
    });
    let mut snapshot = base.near.take().unwrap_or_default();
    if selection.wanted.iter().any(|path| !known.contains(path)) {
        snapshot.retain(|key| selection.wanted.contains(&key.0));
    }
    snapshot.lanes.remove(&context.identity.lane);
    let is_new_key = !base.has_same_key;
    if let Some(same) = base.same_key.take() {
        snapshot.merge(same);
    }
    let held: BTreeSet<StorePath> = snapshot.paths.keys().map(|key| key.0.clone()).collect();
    let wanted = &selection.wanted | &valid.closure(base.repair.iter());
    let new: BTreeSet<StorePath> = wanted.difference(&held).cloned().collect();
    let before = lane_before.unwrap_or_default();
    let lane_grew = selection.missed.iter().any(|path| held.contains(path) && !before.contains(path));
    if new.is_empty() && (!is_new_key || snapshot.paths.is_empty()) && !lane_grew && !base.must_save {
        return;
    }
    mark_used(&mut snapshot, &selection, view.now);
    mark_lane(context, &mut snapshot, &selection, (Moment::End, view.now));
    snapshot.expire(context.packing.keep_saves, view.now);
    snapshot.drop_redundant_layers();
    let (to_pack, apart) =
        plan(context, &mut snapshot, &new, valid, &selection.lane, (Moment::End, Turn::Later, view.now));
    let Base { newest, lost_entries, .. } = base;
    for paths in [&to_pack - &apart, apart] {
        if paths.is_empty() {
            continue;
        }
        let infos: Vec<PathInfo> = paths.iter().map(|path| valid[path].clone()).collect();
        let size = (infos.iter().map(|info| info.nar_size).sum::<u64>() as f64 * RATIO) as u64;
        let digests = digests(&paths, size);
        let entry = digests.id().to_string();
        view.store(Kind::Layer, &entry, size, Bytes::new());
        snapshot.add_layer((digests.clone(), None), Stored { digests, entry }, infos, view.now);
    }
    keep_held(&mut snapshot);
    finish_snapshot(context, &mut snapshot, view.now);
    push_snapshot(context, snapshot, (newest, None), &lost_entries, &mut notes, &mut Pushed::default()).await.unwrap();
}

/// Digests that no other set of paths has.
fn digests(paths: &BTreeSet<StorePath>, size: u64) -> Digests {
    let mut hash = Sha256::new();
    for path in paths {
        hash.update(path.as_str());
    }
    let chunk = Sha(hash.finalize().into());
    Digests { size, chunks: vec![chunk; size.div_ceil(CHUNK_SIZE) as usize] }
}
