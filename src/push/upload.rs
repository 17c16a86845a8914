//! Uploads paths in the order of their references: a path is announced only when everything that it refers to is there.
//!
//! 1. A path is ready when all its references among the paths to upload are announced.
//! 2. A ready path is packed, its archive is uploaded, then its narinfo. A few paths are on their way at once.
//! 3. A path that cannot be uploaded is left out with everything that refers to it. If the sink itself fails, nothing new begins.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::PoisonError;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::native::{Stop, in_time};
use super::pack::{PackError, pack};
use super::{Work, narinfo};
use crate::base::human;
use crate::remote::objects::{ObjectError, Objects, Source};
use crate::store::{PathInfo, StorePath};

/// Number of paths that are packed and uploaded at once.
const PARALLEL: usize = 4;

/// What was uploaded, and what was not.
#[derive(Default)]
pub(super) struct Uploaded {
    pub pushed: BTreeSet<StorePath>,
    /// Number of uploaded bytes.
    pub bytes: u64,
    /// Paths that cannot be uploaded, with the reason.
    pub left_out: Vec<(StorePath, String)>,
    /// Why it stopped early.
    pub stop: Option<Stop>,
}

/// Why one path was not uploaded.
enum Failed {
    /// Others may work.
    Path(String),
    Stop(Stop),
}

/// Uploads the paths of `missing`.
pub(super) async fn upload(work: &Work, name: &str, objects: &dyn Objects, missing: &[&PathInfo]) -> Uploaded {
    let mut done = Uploaded::default();
    let (mut order, mut ready) = Order::new(missing);
    let mut running = FuturesUnordered::new();
    loop {
        while done.stop.is_none()
            && !work.pushed.is_ending()
            && running.len() < PARALLEL
            && let Some(info) = ready.pop_front()
        {
            running.push(async move { (info, upload_one(work, objects, info).await) });
        }
        let Some((info, result)) = running.next().await else { return done };
        match result {
            Ok(bytes) => {
                done.bytes += bytes;
                work.pushed.note(name, [info.path.clone()], bytes);
                done.pushed.insert(info.path.clone());
                ready.extend(order.done(&info.path));
            }
            Err(Failed::Path(why)) => {
                tracing::debug!("{} is not pushed: {why}", info.path);
                done.left_out.push((info.path.clone(), why));
            }
            Err(Failed::Stop(stop)) => done.stop = done.stop.or(Some(stop)),
        }
    }
}

/// Sorts paths so that each follows those that it refers to.
pub(super) fn sorted<'a>(infos: &[&'a PathInfo]) -> Vec<&'a PathInfo> {
    let (mut order, mut ready) = Order::new(infos);
    let mut sorted = Vec::new();
    while let Some(info) = ready.pop_front() {
        ready.extend(order.done(&info.path));
        sorted.push(info);
    }
    sorted
}

/// Leaves about `most` NAR bytes of `missing`, but at least one path, with everything in it that they refer to. Returns the number
/// of the other paths.
pub(super) fn part(missing: &mut Vec<&PathInfo>, most: Option<u64>) -> u64 {
    let Some(most) = most else { return 0 };
    let mut order = sorted(missing);
    let mut bytes = 0_u64;
    let fits = |info: &&&PathInfo| {
        bytes = bytes.saturating_add(info.nar_size);
        bytes <= most
    };
    let count = order.iter().take_while(fits).count().max(1).min(order.len());
    let later = order.split_off(count).len() as u64;
    *missing = order;
    later
}

/// The order of references.
struct Order<'a> {
    by_path: BTreeMap<&'a StorePath, &'a PathInfo>,
    /// Number of references of each path that are not done.
    waiting: BTreeMap<&'a StorePath, usize>,
    referrers: BTreeMap<&'a StorePath, Vec<&'a StorePath>>,
}

impl<'a> Order<'a> {
    /// The order of these paths, and those that can be first.
    fn new(infos: &[&'a PathInfo]) -> (Self, VecDeque<&'a PathInfo>) {
        let by_path: BTreeMap<&StorePath, &PathInfo> = infos.iter().map(|info| (&info.path, *info)).collect();
        let (mut waiting, mut referrers) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
        for info in infos {
            let others = info.references.iter().filter(|path| **path != info.path);
            let known: Vec<&StorePath> =
                others.filter_map(|path| by_path.get_key_value(path)).map(|(path, _)| *path).collect();
            waiting.insert(&info.path, known.len());
            for reference in known {
                referrers.entry(reference).or_default().push(&info.path);
            }
        }
        let ready = infos.iter().copied().filter(|info| waiting[&info.path] == 0).collect();
        (Self { by_path, waiting, referrers }, ready)
    }

    /// Returns the paths that can follow now that `path` is done.
    fn done(&mut self, path: &StorePath) -> Vec<&'a PathInfo> {
        let mut next = Vec::new();
        for referrer in self.referrers.get(path).into_iter().flatten() {
            if let Some(count) = self.waiting.get_mut(referrer) {
                *count -= 1;
                if *count == 0 {
                    next.extend(self.by_path.get(referrer).copied());
                }
            }
        }
        next
    }
}

async fn upload_one(work: &Work, objects: &dyn Objects, info: &PathInfo) -> Result<u64, Failed> {
    let failed = |why: &str| Failed::Path(why.to_owned());
    let task = async {
        let (dirs, folder, one) = (work.dirs.clone(), work.folder.clone(), info.clone());
        let turn = work.turn.clone();
        let packed = tokio::task::spawn_blocking(move || {
            let _turn = turn.as_ref().map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
            pack(&dirs, &one, &folder)
        })
        .await;
        let packed = match packed {
            Ok(Ok(packed)) => packed,
            Ok(Err(PackError::Corrupt(why))) => return Ok(Err(failed(&why))),
            Ok(Err(error @ PackError::Local(_))) => return Err(Stop::Local(error.to_string())),
            Err(error) => return Ok(Err(failed(&error.to_string()))),
        };
        let text = narinfo::text(info, &packed, &work.keys);
        let bytes = packed.size + text.len() as u64;
        for (name, source) in
            [(narinfo::archive(&packed), packed.source), (narinfo::name(&info.path), Source::Bytes(text.into()))]
        {
            match objects.write(&name, &source).await {
                Ok(()) => {}
                Err(ObjectError::TooLarge(why)) => return Ok(Err(failed(&why))),
                Err(error) => return Err(Stop::Sink(error)),
            }
        }
        tracing::debug!("pushed {} ({})", info.path, human::bytes(bytes));
        Ok(Ok(bytes))
    };
    match in_time(work.deadline, task).await {
        Ok(done) => done,
        Err(stop) => Err(Failed::Stop(stop)),
    }
}

#[cfg(test)]
#[path = "upload_test.rs"]
mod tests;
