//! Entries that are not what was stored: nothing of them reaches its place.

use proptest::prelude::*;

use super::*;
use crate::base::digest::Sha;
use crate::base::note::{Code, Severity};
use crate::series::HEAD as SIZE;

async fn stored(place: &Place, content: &str) -> Vec<u8> {
    let machine = Machine::new();
    machine.write(&[("c/a", content), ("c/b/d", "second")]);
    let saved = place.save(&machine, &machine.level("k", &["~/c"]), None).await;
    assert_eq!(saved.outcome, FilesOutcome::Saved);
    fs::read(place.entries().last().unwrap()).unwrap()
}

async fn is_refused(place: &Place, machine: &Machine, bytes: &[u8]) -> bool {
    fs::write(&place.entries()[0], bytes).unwrap();
    let restored = place.restore(machine, &machine.level("k", &["~/c"])).await;
    let told = codes(&restored.notes) == [Code::FilesDamaged] && restored.notes[0].severity == Severity::Warning;
    restored.hit == Hit::Miss && restored.digest.is_none() && told && !machine.home().join("c").exists()
}

#[tokio::test]
async fn a_flipped_byte_anywhere_is_a_miss() {
    let (place, machine) = (Place::new(), Machine::new());
    let bytes = stored(&place, "first").await;
    for position in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[position] ^= 1 << (position % 8);
        assert!(is_refused(&place, &machine, &flipped).await, "byte {position} of {}", bytes.len());
    }
    fs::write(&place.entries()[0], &bytes).unwrap();
    let restored = place.restore(&machine, &machine.level("k", &["~/c"])).await;
    assert_eq!((restored.hit, restored.files), (Hit::Exact, 2));
}

#[tokio::test]
async fn another_length_is_a_miss() {
    let (place, machine) = (Place::new(), Machine::new());
    let bytes = stored(&place, "first").await;
    for length in (0..bytes.len()).step_by(7) {
        assert!(is_refused(&place, &machine, &bytes[..length]).await, "{length} of {}", bytes.len());
    }
    let longer = [bytes.as_slice(), b"x"].concat();
    assert!(is_refused(&place, &machine, &longer).await);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn damage_in_a_large_entry_is_a_miss(seed in 1..u64::MAX, position: prop::sample::Index, bit in 0..8_u8) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (place, machine) = (Place::new(), Machine::new());
        // Text that does not compress, so that the entry has many blocks.
        let mut state = seed;
        let content: String = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b' ' + (state >> 58) as u8)
        }).take(300_000).collect();
        let mut bytes = runtime.block_on(stored(&place, &content));
        let position = position.index(bytes.len());
        bytes[position] ^= 1 << bit;
        prop_assert!(runtime.block_on(is_refused(&place, &machine, &bytes)), "{position} of {}", bytes.len());
    }
}

#[tokio::test]
async fn a_damaged_generation_gives_way_to_the_one_before_and_is_replaced() {
    let (place, machine) = (Place::new(), Machine::new());
    stored(&place, "old").await;
    let mut bytes = stored(&place, "new").await;
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(place.entries().last().unwrap(), &bytes).unwrap();
    let level = machine.level("k", &["~/c"]);
    let restored = place.restore(&machine, &level).await;
    assert_eq!((restored.hit, codes(&restored.notes)), (Hit::Exact, vec![Code::FilesDamaged]));
    assert_eq!(machine.read("c/a").as_deref(), Some("old"));
    // The header of the damaged one tells the digest of this content: that is not relied on.
    machine.write(&[("c/a", "new")]);
    let saved = place.save(&machine, &level, restored.digest.as_deref()).await;
    assert_eq!((saved.outcome, place.entries().len()), (FilesOutcome::Saved, 3));
    let other = Machine::new();
    let restored = place.restore(&other, &other.level("k", &["~/c"])).await;
    assert_eq!((restored.hit, restored.notes.len(), other.read("c/a").as_deref()), (Hit::Exact, 0, Some("new")));
}

#[tokio::test]
async fn an_entry_that_vanished_or_an_unreadable_cache_is_a_miss() {
    let (place, machine) = (Place::new(), Machine::new());
    stored(&place, "first").await;
    let level = machine.level("k", &["~/c"]);
    fs::remove_dir_all(place.folder.path().join("files")).unwrap();
    let restored = place.restore(&machine, &level).await;
    assert_eq!((restored.hit, codes(&restored.notes)), (Hit::Miss, vec![Code::FilesLookupFailed]));
    machine.write(&[("c/a", "1")]);
    let saved = place.save(&machine, &level, None).await;
    assert_eq!((saved.outcome, codes(&saved.notes)), (FilesOutcome::Failed, vec![Code::FilesSaveFailed]));
}

#[tokio::test]
async fn a_scratch_folder_that_cannot_be_made_is_told() {
    let (place, machine) = (Place::new(), Machine::new());
    stored(&place, "first").await;
    fs::write(machine.scratch(), "a file").unwrap();
    let level = machine.level("k", &["~/c"]);
    let restored = place.restore(&machine, &level).await;
    assert_eq!((restored.hit, codes(&restored.notes)), (Hit::Miss, vec![Code::FilesFailed]));
    machine.write(&[("c/a", "1")]);
    assert_eq!(place.save(&machine, &level, None).await.outcome, FilesOutcome::Failed);
}

#[tokio::test]
async fn an_entry_of_a_newer_program_is_a_miss_and_told() {
    let (place, machine) = (Place::new(), Machine::new());
    let mut bytes = stored(&place, "first").await;
    let format = bytes.windows(10).position(|part| part == b"\"format\":2").unwrap() + 9;
    bytes[format] = b'7';
    let check = Sha::of(&bytes[..SIZE - 65]).to_string();
    bytes[SIZE - 65..SIZE - 1].copy_from_slice(check.as_bytes());
    fs::write(&place.entries()[0], &bytes).unwrap();
    let level = machine.level("k", &["~/c"]);
    let restored = place.restore(&machine, &level).await;
    assert_eq!((restored.hit, codes(&restored.notes)), (Hit::Miss, vec![Code::FilesFormat]));
    assert!(restored.notes[0].message.contains("format 7"), "{}", restored.notes[0].message);
    // It is left as it is.
    machine.write(&[("c/a", "1")]);
    assert_eq!(place.save(&machine, &level, None).await.outcome, FilesOutcome::Saved);
    assert_eq!(fs::read(&place.entries()[0]).unwrap(), bytes);
}
