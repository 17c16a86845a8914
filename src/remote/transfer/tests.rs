//! Downloads from a remote in memory that can return wrong bytes, ignore ranges and lose entries.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::*;
use crate::remote::{CONFIRM_TRIES, Kind, Put, confirmed_within};

/// The behaviour of the remote in memory. Everything is off at first.
#[derive(Default)]
struct Place {
    body: Vec<u8>,
    /// A byte that is wrong in this many of the reads that contain it.
    wrong: Option<(u64, AtomicUsize)>,
    ignores_ranges: bool,
    ranges_lost: AtomicBool,
    gone: bool,
    reads: Mutex<Vec<Range<u64>>>,
    streams: AtomicUsize,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    /// The results of lookups, from the last to the first.
    found: Mutex<Vec<Option<String>>>,
}

impl Place {
    fn cut(&self, range: Range<u64>) -> Bytes {
        let mut bytes = self.body[range.start as usize..range.end as usize].to_vec();
        if let Some((at, times)) = self.wrong.as_ref().filter(|(at, _)| range.contains(at))
            && times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        {
            bytes[(at - range.start) as usize] ^= 1;
        }
        bytes.into()
    }
}

#[async_trait]
impl Remote for Place {
    fn describe(&self) -> String {
        "a place in memory".to_owned()
    }

    async fn find(&self, kind: Kind, _: &[String]) -> Result<Option<Entry>, RemoteError> {
        let name = self.found.lock().unwrap().pop().expect("no more lookups were expected");
        Ok(name.map(|name| Entry { kind, name, size: None, location: String::new() }))
    }

    async fn read(&self, _: &Entry, range: Range<u64>) -> Result<Bytes, RemoteError> {
        self.reads.lock().unwrap().push(range.clone());
        if self.gone {
            return Err(RemoteError::Gone("It was evicted.".to_owned()));
        }
        if self.ignores_ranges && !self.ranges_lost.swap(true, Ordering::Relaxed) {
            // As a server that sends the whole entry, slowly.
            std::future::pending::<()>().await;
        }
        let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_under_way.fetch_max(under_way, Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        Ok(self.cut(range))
    }

    async fn stream(&self, _: &Entry) -> Result<BoxStream<'static, Result<Bytes, RemoteError>>, RemoteError> {
        self.streams.fetch_add(1, Ordering::Relaxed);
        let size = self.body.len() as u64;
        let pieces: Vec<_> = (0..size).step_by(7).map(|at| Ok(self.cut(at..size.min(at + 7)))).collect();
        Ok(stream::iter(pieces).boxed())
    }

    async fn put_file(&self, _: Kind, _: &str, _: &Path) -> Result<Put, RemoteError> {
        unreachable!("nothing is stored here")
    }

    async fn put_bytes(&self, _: Kind, _: &str, _: Bytes) -> Result<Put, RemoteError> {
        unreachable!("nothing is stored here")
    }

    fn ranges_work(&self) -> bool {
        !self.ranges_lost.load(Ordering::Relaxed)
    }
}

/// 1,003 bytes in chunks of 10, five to a read.
fn body() -> Vec<u8> {
    (0..1003_u32).map(|index| (index * 7 % 251) as u8).collect()
}

fn plan() -> FetchPlan {
    plan_of(1003, 10, body().chunks(10).map(|chunk| Sha256::digest(chunk).into()).collect())
}

fn plan_of(size: u64, chunk_size: u64, digests: Vec<[u8; 32]>) -> FetchPlan {
    let slots = Arc::new(Semaphore::new(4));
    FetchPlan { size, chunk_size, digests, slots, range_chunks: 5, progress: Arc::default() }
}

fn entry() -> Entry {
    Entry { kind: Kind::Layer, name: "layer-1".into(), size: None, location: String::new() }
}

async fn fetch(place: &Place, plan: &FetchPlan) -> (Result<FetchOutcome, RemoteError>, Vec<u8>) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(plan.size).unwrap();
    let outcome = fetch_file(place, &entry(), plan, &file).await;
    let mut bytes = vec![0; plan.size as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    (outcome, bytes)
}

#[tokio::test]
async fn an_entry_arrives_whole_with_few_reads_at_once() {
    let place = Place { body: body(), ..Place::default() };
    let plan = plan();
    let (outcome, bytes) = fetch(&place, &plan).await;
    assert_eq!(outcome.unwrap(), FetchOutcome { bad_chunks: vec![], bytes: 1003 });
    assert_eq!(bytes, body());
    assert_eq!(plan.progress.load(Ordering::Relaxed), 1003);
    let mut reads = place.reads.lock().unwrap().clone();
    reads.sort_by_key(|range| range.start);
    assert_eq!(reads.len(), 21);
    assert_eq!((reads[0].clone(), reads[20].clone()), (0..50, 1000..1003));
    assert!(place.most_under_way.into_inner() <= 4);
}

#[tokio::test]
async fn fetches_that_share_slots_use_all_of_them_and_no_more() {
    let place = Place { body: body(), ..Place::default() };
    let plan = plan();
    let ((one, first), (other, second)) = tokio::join!(fetch(&place, &plan), fetch(&place, &plan));
    assert_eq!((one.unwrap().bytes, other.unwrap().bytes), (1003, 1003));
    assert_eq!((first, second), (body(), body()));
    assert_eq!(place.most_under_way.into_inner(), 4);
}

#[tokio::test]
async fn a_chunk_that_is_wrong_once_is_read_again() {
    let place = Place { body: body(), wrong: Some((123, 1.into())), ..Place::default() };
    let (outcome, bytes) = fetch(&place, &plan()).await;
    assert_eq!(outcome.unwrap().bad_chunks, [] as [usize; 0]);
    assert_eq!(bytes, body());
    assert!(place.reads.lock().unwrap().contains(&(120..130)), "only the chunk itself is read again");
}

#[tokio::test]
async fn a_chunk_that_stays_wrong_is_reported_and_not_written() {
    let place = Place { body: body(), wrong: Some((1001, usize::MAX.into())), ..Place::default() };
    let plan = plan();
    let (outcome, bytes) = fetch(&place, &plan).await;
    assert_eq!(outcome.unwrap(), FetchOutcome { bad_chunks: vec![100], bytes: 1000 });
    assert_eq!(bytes[..1000], body()[..1000]);
    assert_eq!(bytes[1000..], [0, 0, 0]);
    assert_eq!(plan.progress.load(Ordering::Relaxed), 1000);
}

#[tokio::test]
async fn a_place_that_ignores_ranges_is_read_as_one_stream() {
    for (times, bad) in [(0, vec![]), (1, vec![]), (usize::MAX, vec![12])] {
        let place = Place { body: body(), ignores_ranges: true, wrong: Some((123, times.into())), ..Place::default() };
        let (outcome, bytes) = fetch(&place, &plan()).await;
        assert_eq!(outcome.unwrap().bad_chunks, bad);
        let mut expected = body();
        if !bad.is_empty() {
            expected[120..130].fill(0);
        }
        assert_eq!(bytes, expected);
        assert_eq!(place.streams.into_inner(), 1);
    }
}

#[tokio::test]
async fn an_entry_that_is_gone_ends_the_fetch() {
    let place = Place { body: body(), gone: true, ..Place::default() };
    let (outcome, bytes) = fetch(&place, &plan()).await;
    assert!(matches!(outcome, Err(RemoteError::Gone(_))), "{outcome:?}");
    assert_eq!(bytes, vec![0; 1003]);
}

#[tokio::test]
async fn a_stream_that_is_too_short_is_gone() {
    let place = Place { body: body()[..900].to_vec(), ranges_lost: true.into(), ..Place::default() };
    let (outcome, bytes) = fetch(&place, &plan()).await;
    assert!(matches!(outcome, Err(RemoteError::Short(_))), "{outcome:?}");
    assert_eq!(bytes[..900], body()[..900]);
}

#[tokio::test]
async fn a_plan_that_contradicts_itself_is_refused() {
    let place = Place::default();
    for plan in [plan_of(21, 10, vec![[0; 32]; 2]), plan_of(21, 0, vec![[0; 32]; 2])] {
        let (outcome, _) = fetch(&place, &plan).await;
        assert!(outcome.unwrap_err().to_string().contains("2 digests"));
    }
    let empty = plan_of(0, 10, vec![]);
    assert_eq!(fetch(&place, &empty).await.0.unwrap(), FetchOutcome::default());
    assert!(place.reads.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let read_only = File::open(file.path()).unwrap();
    let place = Place { body: body(), ..Place::default() };
    let error = fetch_file(&place, &entry(), &plan(), &read_only).await.unwrap_err();
    assert!(error.to_string().contains("Cannot write the layer layer-1 to the disk"), "{error}");
}

#[tokio::test]
async fn a_taken_name_is_confirmed_by_an_exact_match_alone() {
    let confirmed = async |found: &[Option<&str>]| {
        let found = found.iter().rev().map(|name| name.map(str::to_owned)).collect::<Vec<_>>();
        let place = Place { found: Mutex::new(found), ..Place::default() };
        let answer = confirmed_within(&place, Kind::Layer, "name", CONFIRM_TRIES, Duration::ZERO).await;
        assert!(place.found.lock().unwrap().is_empty(), "a lookup is missing");
        answer
    };
    assert!(confirmed(&[Some("name")]).await);
    assert!(confirmed(&[None, Some("name-longer"), Some("name")]).await);
    assert!(!confirmed(&[None, None, None]).await);
    assert!(!confirmed(&[Some("name-longer"), None, Some("name-longer")]).await);
}
