//! The self-test of a machine: a tiny image is served, and a loop device, squashfs and a read must work on it as on a layer.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::attach::mount::mount_image;
use crate::base::platform::{UnmountFlags, unmount};
use crate::layer::squashfs::{
    Content, FRAGMENT_SIZE, Kind, SUPERBLOCK_SIZE, Tree, UNCOMPRESSED_BLOCK, round_up_to_page, write_tables,
};

/// The name of the file with the image, and of the folder where it is mounted.
pub(super) const PROBE: &str = "probe";
/// The name of the file in the image.
const NAME: &str = "file";
/// Longest time for the test.
const PATIENCE: Duration = Duration::from_secs(5);

/// The bytes of the file in the image, which is one block.
fn content() -> Vec<u8> {
    (0..FRAGMENT_SIZE).map(|at| (at % 251) as u8).collect()
}

/// The image.
pub(super) fn image() -> io::Result<Vec<u8>> {
    let (start, bytes) = (SUPERBLOCK_SIZE as u64, content());
    let mut tree = Tree::new();
    let blocks = vec![FRAGMENT_SIZE as u32 | UNCOMPRESSED_BLOCK];
    let content = tree.add_content(Content { size: bytes.len() as u64, start, blocks, fragment: None });
    let file = tree.add(NAME.as_bytes(), Kind::File { content, executable: false });
    tree.nodes[0].kind = Kind::Directory(vec![file]);
    let tables = write_tables(&tree, &[], start + bytes.len() as u64)?;
    let mut image = [&tables.superblock[..], &bytes, &tables.tail].concat();
    image.resize(round_up_to_page(image.len() as u64) as usize, 0);
    Ok(image)
}

/// Mounts the image among the files of a stream and reads it. If that does not end in time, the caller ends the stream, which
/// releases the thread that waits.
///
/// # Errors
/// When layers could not be streamed on this machine.
pub(super) fn test(folder: &Path, files: &Path) -> io::Result<()> {
    let (point, file) = (folder.join(PROBE), files.join(PROBE));
    DirBuilder::new().mode(0o700).create(&point)?;
    let (done, result) = channel();
    let work = move || {
        let tested = mount_image(&file, &point).map_err(io::Error::other).and_then(|()| {
            let read = fs::read(point.join(NAME));
            let unmounted = unmount(&point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
            if read? != content() {
                return Err(io::Error::other("an image on it returns wrong bytes"));
            }
            unmounted.map_err(Into::into)
        });
        let _ = fs::remove_dir(&point); // it stays if it is still mounted, and then so does the folder above
        let _ = done.send(tested); // nobody waits any more
    };
    std::thread::Builder::new().name("self-test".into()).spawn(work)?;
    let late = |_| io::Error::other("an image on a FUSE file could not be mounted and read within 5 s");
    result
        .recv_timeout(PATIENCE)
        .map_err(late)?
        .map_err(|error| io::Error::other(format!("the self-test failed: {error}")))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;
    use crate::layer::squashfs::Image;

    #[test]
    fn the_image_of_the_self_test_is_one() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&image().unwrap()).unwrap();
        let image = Image::open(File::open(file.path()).unwrap()).unwrap();
        let names: Vec<_> = image.root().unwrap().into_iter().map(|entry| entry.name.into_vec()).collect();
        assert_eq!(names, [NAME.as_bytes()]);
    }
}
