//! Small entries that would become large: on the disk, or in the number of things on it.

use super::hostile::store_body;
use super::*;
use crate::base::note::Code;

/// A tar archive of folders.
fn folders(count: usize) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for number in 0..count {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        let name = format!("home/c/{number}");
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, std::io::empty()).unwrap();
    }
    tar.into_inner().unwrap()
}

#[tokio::test]
async fn what_is_more_than_the_header_says_is_refused_before_it_is_unpacked() {
    let (place, machine) = (Place::new(), Machine::new());
    // No file, and a hundred thousand folders.
    store_body(&place, &folders(120_000), 0, 0).await;
    let restored = place.restore(&machine, &machine.level("k", &["~/c"])).await;
    assert_eq!((restored.hit, restored.notes[0].code), (Hit::Miss, Code::FilesRefused), "{:?}", restored.notes);
    assert!(restored.notes[0].message.contains("does not hold what its header says"), "{:?}", restored.notes);
}

#[tokio::test]
async fn what_the_disk_has_no_room_for_is_not_even_fetched() {
    let (place, machine) = (Place::new(), Machine::new());
    store_body(&place, &folders(1), 1, 1 << 60).await;
    let restored = place.restore(&machine, &machine.level("k", &["~/c"])).await;
    assert_eq!((restored.hit, restored.downloaded), (Hit::Miss, 0));
    let note = &restored.notes[0];
    assert!(note.code == Code::FilesNoRoom && note.message.contains("MiB free"), "{note:?}");
    let place = Place::new();
    store_body(&place, &folders(1), 3_000_000, 1).await;
    let restored = place.restore(&machine, &machine.level("k", &["~/c"])).await;
    assert_eq!((restored.hit, restored.downloaded), (Hit::Miss, 0));
    let note = &restored.notes[0];
    assert!(note.code == Code::FilesRefused && note.message.contains("3000000 files"), "{note:?}");
}
